"""``madang compare``: models, quantizations and engines side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.cli.sizing import Teller, read_text
from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from madang.evaluation import EvaluationText, Question
    from madang.evaluation.words import Language

PROMPTS = (
    "What is the capital of France?",
    "Explain in one sentence why the sky is blue.",
    "대한민국의 수도는 어디인가요?",
)
_SHOWN_CHARACTERS = 100

Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Models, each with @ENGINE behind it if it is to be that one.")
]
Reference = Annotated[
    str | None, typer.Option("--reference", metavar="MODEL", help="Whom the others are measured against.")
]
Text = Annotated[
    Path | None, typer.Option("--text", metavar="FILE", help="Text to read. Unset: 5.6 kB of English, as much Korean.")
]
Passages = Annotated[
    int, typer.Option("--passages", metavar="N", min=1, max=10_000, help="Most pieces of --text, spread over it.")
]
Tasks = Annotated[
    Path | None,
    typer.Option("--tasks", metavar="FILE", help="Lines of JSON: a prompt, and its keywords or its answer."),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help="To be answered by all; may be given several times."),
]
AnswerTokens = Annotated[int, typer.Option("--answer-tokens", metavar="N", min=1, max=4096, help="Most of an answer.")]
PromptTokens = Annotated[
    int, typer.Option("--prompt-tokens", metavar="N", min=1, max=1_000_000, help="Length of the prompt that is timed.")
]
DecodeTokens = Annotated[
    int, typer.Option("--decode-tokens", metavar="N", min=1, max=1_000_000, help="Tokens that are timed.")
]
Repetitions = Annotated[
    int, typer.Option("--repetitions", metavar="N", min=0, max=1000, help="Runs of the speed; 0 measures none.")
]
HtmlFile = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")]
LanguageOption = Annotated[str, typer.Option("--language", metavar="WORD", help="Of the page: en, ko or both.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure everything again, also what is kept from before.")]


def compare(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    models: Models,
    *,
    reference: Reference = None,
    text: Text = None,
    passages: Passages = 64,
    tasks: Tasks = None,
    prompts: Prompts = None,
    answer_tokens: AnswerTokens = 48,
    raw: options.Raw = False,
    prompt_tokens: PromptTokens = 256,
    decode_tokens: DecodeTokens = 64,
    repetitions: Repetitions = 5,
    html: HtmlFile = None,
    language: LanguageOption = "en",
    fresh: Fresh = False,
    threads: options.Threads = None,
    context: options.Context = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    kv_type: options.KvType = None,
    as_json: options.Json = False,
) -> None:
    """Measure models, quantizations and engines side by side: quality, memory, speed and answers.

    The first model is the reference, unless --reference names another. What is interrupted goes on next time.
    """
    from madang.cli.pull import fetcher
    from madang.core.writing import write_atomically
    from madang.evaluation import ComparisonPlan, comparison_page, enter, parse_contestants
    from madang.evaluation import compare as compare_models
    from madang.evaluation.results import Results

    languages = languages_of(language)
    if html is not None and html.is_dir():
        raise InvalidRequest(f"--html: {html} is a folder.", param="html", hint="Name a file in it.")
    settings = options.settings_of(
        ctx, threads=threads, context=context, engine=engine, precision=precision, kv_type=kv_type
    )
    plan = ComparisonPlan(
        text=_text(text, passages),
        prompts=_prompts(prompts),
        tasks=_tasks(tasks),
        answer_tokens=answer_tokens,
        raw=raw,
        prompt_tokens=prompt_tokens,
        decode_tokens=decode_tokens,
        n_runs=repetitions,
    )
    named = models if reference is None or reference in models else [reference, *models]
    entrants = enter(parse_contestants(named, settings.engine), settings, fetcher(settings))
    number = 0 if reference is None else named.index(reference)
    document = compare_models(entrants, settings, plan, reference=number, fresh=fresh, tell=Teller())
    Results(settings.home).keep(document)
    if html is not None:
        write_atomically(html, comparison_page(document, languages))
    if as_json:
        data_json(document)
    else:
        _print(document)


def languages_of(word: str) -> tuple[Language, ...]:
    """Of a page. Raises UnknownOption."""
    from madang.evaluation.words import LANGUAGES

    if word == "both":
        return LANGUAGES
    chosen = tuple(language for language in LANGUAGES if language == word)
    if not chosen:
        raise UnknownOption("language", word, [*LANGUAGES, "both"])
    return chosen


def _prompts(given: list[str] | None) -> tuple[str, ...]:
    if given is None:
        return PROMPTS
    if not all(prompt.strip() for prompt in given):
        raise InvalidRequest("A prompt is empty.", param="prompt")
    return tuple(given)


def _text(path: Path | None, passages: int) -> EvaluationText:
    from madang.evaluation import built_in_text, text_of

    return built_in_text() if path is None else text_of(path.name, read_text(path), at_most=passages)


def _tasks(path: Path | None) -> tuple[Question, ...]:
    from madang.evaluation import read_questions

    return () if path is None else tuple(read_questions(read_text(path)))


# ---- what people see


def _print(document: Mapping[str, Any]) -> None:
    columns = _columns(document)
    rows = [list(columns)]
    rows += [[write(model) for write in columns.values()] for model in document["models"]]
    data_table(rows, right=range(1, len(columns)))
    _print_answers(document)
    _note_failures(document)
    _note_meaning(document)


def _columns(document: Mapping[str, Any]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    measured = document["measured_on"]
    measure, title = ("perplexity", "PPL") if document["one_tokenizer"] else ("bits_per_byte", "BITS/BYTE")
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "MODEL": lambda model: model["label"],
        "SIZE": lambda model: _bytes(model["size_bytes"]),
        "MEMORY": lambda model: _bytes(model["memory"]["peak_bytes"]),
    }
    for part in measured["text"] if any(model["text"] for model in document["models"]) else ():
        columns[f"{title} {part['name']}"] = _of_text(part["name"], measure)
    if any(_divergence(model) for model in document["models"]):
        columns |= {"MEAN KL": _kl, "SAME TOP": _same_top}
    if measured["tasks"]:
        columns["TASKS"] = _task_score
    if measured["speed"]["runs"]:
        columns |= {"PROMPT T/S": _rate("prompt"), "DECODE T/S": _rate("decode"), "FIRST TOKEN": _first_token}
    return columns


def _bytes(n_bytes: int | None) -> str:
    return "-" if n_bytes is None else format_bytes(n_bytes)


def _of_text(part: str, measure: str) -> Callable[[Mapping[str, Any]], str]:
    def write(model: Mapping[str, Any]) -> str:
        if model["text"] is None:
            return "-"
        noise = _noise(model, "text")
        mark = "≈" if noise is not None and noise[part] is True else ""
        return f"{mark}{model['text'][part][measure]['value']:.3f}"

    return write


def _kl(model: Mapping[str, Any]) -> str:
    found = _divergence(model)
    if found is None:
        return "-"
    mean = found["mean_kl"]
    spread = "" if mean["low"] is None else f" ±{(mean['high'] - mean['low']) / 2:.5f}"
    return f"{mean['value']:.5f}{spread}"


def _same_top(model: Mapping[str, Any]) -> str:
    found = _divergence(model)
    return "-" if found is None else f"{found['top_1_agreement']['value']:.1%}"


def _task_score(model: Mapping[str, Any]) -> str:
    if model["tasks"] is None:
        return "-"
    mark = "≈" if _noise(model, "tasks") is True else ""
    return f"{mark}{model['tasks']['score']['value']:.1%} of {model['tasks']['n']}"


def _rate(step: str) -> Callable[[Mapping[str, Any]], str]:
    def write(model: Mapping[str, Any]) -> str:
        if model["speed"] is None:
            return "-"
        rate = model["speed"][step]["tokens_per_s"]
        mark = "≈" if _noise(model, step) is True else ""
        return f"{mark}{rate['median']:.1f} ±{(rate['max'] - rate['min']) / 2:.1f}"

    return write


def _first_token(model: Mapping[str, Any]) -> str:
    first = None if model["speed"] is None else model["speed"]["time_to_first_token_s"]
    return "-" if first is None else format_duration(first["median"])


def _divergence(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    against = model["against_reference"]
    found: Mapping[str, Any] | None = None if against is None else against["divergence"]
    return found


def _noise(model: Mapping[str, Any], what: str) -> Any:
    against = model["against_reference"]
    return None if against is None else against["within_noise"][what]


def _print_answers(document: Mapping[str, Any]) -> None:
    for number, prompt in enumerate(document["measured_on"]["prompts"]):
        said = [(model["label"], model["answers"][number]["text"]) for model in document["models"]]
        rows = [[label, _one_line(text)] for label, text in said if text is not None]
        if rows:
            data(f"\n{_one_line(prompt)}")
            data_table([["", *row] for row in rows])


def _one_line(text: str) -> str:
    """The beginning, short enough for a line, without breaking one."""
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN_CHARACTERS else f"{words[:_SHOWN_CHARACTERS]}…"


def _note_failures(document: Mapping[str, Any]) -> None:
    for model in document["models"]:
        if model["failed"] is not None:
            note(f"Note: {model['label']} could not be measured further. {model['failed']}")
        for kind, problem in model["problems"].items():
            note(f"Note: {model['label']}, {kind}: {problem}")


def _note_meaning(document: Mapping[str, Any]) -> None:
    measured = document["measured_on"]
    n_passages = sum(part["passages"] for part in measured["text"])
    data(f"\nReference: {document['reference']}. Read: {n_passages} passages. ≈ may differ from it by chance only.")
    if any(_divergence(model) for model in document["models"]):
        data("KL(reference ‖ model) in nats per token, ± half of its 95 % interval over passages.")
    if not document["one_tokenizer"]:
        data("The tokenizers differ, so perplexity and KL cannot be compared; bits per byte count what was written.")
    for one, other in document["equal_kl"]:
        data(f"No certain difference in KL between {one} and {other}.")
    kept = document["steps"]["kept_from_before"]
    if kept:
        note(f"Note: {kept} of {kept + document['steps']['done']} steps were kept from before; --fresh measures again.")
