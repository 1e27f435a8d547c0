"""``madang data synthesize``: a model writes examples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data, data_json, note
from madang.cli.curating import told
from madang.core.engine import Engine
from madang.core.errors import InvalidRequest
from madang.training.curation.recipe import KINDS, Recipe

if TYPE_CHECKING:
    from madang.training.curation.journal import Journal
    from madang.training.curation.synthesis import Topic

MOST_TOPICS = 100_000
_RECIPE = Recipe()

Topics = Annotated[Path, typer.Argument(metavar="TOPICS", help="A text file with a topic in each line.")]
WriterModel = Annotated[str, typer.Option("--model", metavar="MODEL", help="The model that writes.")]
NewFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A new file of JSON lines.")]
KindWord = Annotated[str, typer.Option("--kind", metavar="WORD", help="qa or text.")]
LanguageWord = Annotated[str, typer.Option("--language", metavar="WORD", help="en or ko.")]
PerTopic = Annotated[int, typer.Option("--per-topic", metavar="N", min=1, max=10_000, help="Examples of each topic.")]
FirstSeed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="Same seed, same requests.")]
Warmth = Annotated[float, typer.Option("--temperature", metavar="T", min=0, max=100, help="Randomness.")]
AnswerTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", min=16, max=100_000, help="Of one answer.")]
Instruction = Annotated[
    str | None,
    typer.Option("--instruction", metavar="TEXT", help="Said in place of ours; {topic} stands for the topic."),
]
Free = Annotated[
    bool,
    typer.Option("--free", help="Search answers for JSON, for engines that hold none to it."),
]
Tries = Annotated[int, typer.Option("--tries", metavar="N", min=1, max=100, help="Attempts for one example.")]
LeastCharacters = Annotated[int, typer.Option("--min-characters", metavar="N", min=1, max=10**6, help="Of an answer.")]
MostCharacters = Annotated[int, typer.Option("--max-characters", metavar="N", min=1, max=10**6, help="Of an answer.")]


def synthesize(  # noqa: PLR0913
    ctx: typer.Context,
    topics: Topics,
    *,
    model: WriterModel,
    output: NewFile,
    kind: KindWord = _RECIPE.kind,
    language: LanguageWord = _RECIPE.language,
    per_topic: PerTopic = _RECIPE.per_topic,
    seed: FirstSeed = _RECIPE.seed,
    temperature: Warmth = _RECIPE.temperature,
    max_tokens: AnswerTokens = _RECIPE.max_tokens,
    instruction: Instruction = None,
    free: Free = False,
    tries: Tries = _RECIPE.tries,
    min_characters: LeastCharacters = _RECIPE.min_characters,
    max_characters: MostCharacters = _RECIPE.max_characters,
    engine: options.Engine = None,
    threads: options.Threads = None,
    context: options.Context = None,
    as_json: options.Json = False,
) -> None:
    """Have a model write examples about topics, each checked before it counts.

    What is interrupted goes on with the same call; FILE.part is what there is so far.
    """
    from madang.cli.pull import fetcher
    from madang.core.errors import UnknownOption
    from madang.runtime.open import open_model
    from madang.training.curation.journal import Journal

    if kind not in KINDS:
        raise UnknownOption("kind of example", kind, KINDS)
    recipe = Recipe(
        kind="text" if kind == "text" else "qa",
        language=language,
        per_topic=per_topic,
        seed=seed,
        temperature=temperature,
        max_tokens=max_tokens,
        instruction=instruction,
        is_held=not free,
        tries=tries,
        min_characters=min_characters,
        max_characters=max_characters,
    )
    subjects = _topics(topics)
    journal = Journal(output, recipe, subjects, model)
    if journal.done:
        note(f"Going on after {len(journal.done):,} examples that are there already.")
    settings = options.settings_of(ctx, engine=engine, threads=threads, context=context)
    with closing(open_model(model, settings, fetch=fetcher(settings))) as writer:
        _write_examples(writer, subjects, recipe, journal, tells=not as_json)
    report = journal.finish()
    if as_json:
        data_json(report | {"output": str(output), "model": model, "prompt": recipe.prompt_name})
        return
    data(f"{report['made']:,} made in {report['attempts']:,} attempts, {report['given_up']:,} given up")
    for reason, n in report["refused"].items():
        note(f"{n:,} refused: {reason}")
    told(output, report["made"])


def _write_examples(
    writer: Engine, subjects: Sequence[Topic], recipe: Recipe, journal: Journal, *, tells: bool
) -> None:
    """Raises InvalidRequest, which names the option here, where the engine holds no answer to a form."""
    from madang.training.curation.synthesis import synthesize

    try:
        for attempt in synthesize(writer, subjects, recipe, journal.done):
            journal.add(attempt)
            if tells:
                note(f"{attempt.number + 1} of {len(subjects) * recipe.per_topic}: {attempt.refused or 'made'}")
    except InvalidRequest as error:
        if error.param != "constraint":
            raise
        raise InvalidRequest(error.message, param="free", hint="Take another engine, or add --free.") from error


def _topics(path: Path) -> list[Topic]:
    from madang.cli.sizing import read_text
    from madang.training.curation.synthesis import Topic

    lines = enumerate(read_text(path).splitlines(), start=1)
    found = [Topic(line.strip(), path.name, number) for number, line in lines if line.strip()]
    if not 0 < len(found) <= MOST_TOPICS:
        raise InvalidRequest(f"{path} has {len(found)} topics, but 1 to {MOST_TOPICS} are made into examples.")
    return found
