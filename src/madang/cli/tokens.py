"""``madang tokens``: how models cut a text into tokens, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from madang.cli import options
from madang.cli.console import data, data_json, data_table, harmless, note
from madang.cli.prompting import checked_text, read_all
from madang.cli.sizing import read_text
from madang.core.errors import InvalidRequest

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.runtime.tokens import Cut, OpenedTokenizer

MOST_SHOWN_CHARACTERS = 4000  # token by token; of longer texts only the counts are told
_COLOURS = ("on blue", "on magenta", "on cyan", "on green", "on yellow")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SEPARATOR = "│"

Text = Annotated[str | None, typer.Argument(metavar="TEXT", help="What to cut; without one, standard input.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="MODEL...", help="Whose tokenizers. Unset: those of the models that are here."),
]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="A text in UTF-8, instead.")]
Parallel = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--parallel", metavar="KOREAN ENGLISH", help="Two files that say the same, instead: what each costs."),
]
Special = Annotated[
    bool, typer.Option("--special", help="With the tokens around a text, and control tokens that are spelled out.")
]


class ManyValues(TyperCommand):
    """Takes ``--models A B C`` as people write it: all words up to the next option are its values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, [*_spelled_out(args, "--models")])


def _spelled_out(args: Sequence[str], option: str) -> Iterator[str]:
    is_inside, n_values = False, 0
    for arg in args:
        if arg == option:
            is_inside, n_values = True, 0
        elif is_inside and not arg.startswith("-"):
            n_values += 1
            if n_values > 1:
                yield option
        else:
            is_inside = False
        yield arg


def tokens(
    ctx: typer.Context,
    text: Text = None,
    *,
    models: Models = None,
    file: File = None,
    parallel: Parallel = None,
    special: Special = False,
    as_json: options.Json = False,
) -> None:
    """Show how models cut a text into tokens, and what that costs. Only tokenizers are read, of any model by name."""
    from madang.runtime.tokens import cut

    settings = options.settings_of(ctx)
    if sum(given is not None for given in (text, file, parallel)) > 1:
        raise InvalidRequest("TEXT, --file and --parallel exclude each other.", param="text", hint="Give one of them.")
    if parallel is not None:
        korean, english = map(read_text, parallel)
        if not korean.strip() or not english.strip():
            raise InvalidRequest("One of the two texts of --parallel is empty.", param="parallel")
        _show_costs(_opened(models, settings), (korean, english), special=special, as_json=as_json)
        return
    said = read_text(file) if file is not None else _said(text)
    cuts = [cut(model, said, special=special) for model in _opened(models, settings)]
    if as_json:
        data_json({"n_characters": len(said), "models": [document(one) for one in cuts]})
    else:
        _show(said, cuts)


def _said(text: str | None) -> str:
    """The argument, or what is piped in."""
    said = ""
    if text is not None:
        said = checked_text(text, "The text")
    elif not sys.stdin.isatty():
        said = read_all(sys.stdin)
    if not said:
        raise InvalidRequest(
            "There is no text.", param="text", hint='Write it: madang tokens "안녕하세요" --models smollm2:135m'
        )
    return said


def _opened(names: list[str] | None, settings: Settings) -> list[OpenedTokenizer]:
    from madang.models import Store
    from madang.runtime.tokens import open_tokenizer

    if names is None:
        names = [files.name for files in Store(settings.home).list()]
    if not names:
        raise InvalidRequest(
            "No model is here whose tokenizer could be used.",
            param="models",
            hint="Name some, such as: --models qwen3:0.6b gemma3:1b (only their tokenizers are fetched).",
        )
    return [open_tokenizer(name, settings) for name in names]


def document(cut: Cut) -> dict[str, Any]:
    """For programs."""
    return {**counts(cut), "tokens": [asdict(token) for token in cut.tokens]}


def counts(cut: Cut) -> dict[str, Any]:
    """The figures of a text; null is unknown."""
    return {
        "name": cut.model.name,
        "n_tokens": len(cut.tokens),
        "tokens_per_character": cut.tokens_per_character,
        "tokens_per_letter": cut.by_script,
        "vocabulary_size": cut.model.tokenizer.vocab_size,
        "context_tokens": cut.model.context_tokens,
        "context_share": cut.context_share,
    }


# ---- what people see


def _show(text: str, cuts: Sequence[Cut]) -> None:
    if len(text) <= MOST_SHOWN_CHARACTERS:
        for cut in cuts:
            data(f"{cut.model.name}  {len(cut.tokens)} tokens")
            _paint(_groups(cut))
            data("")
        if any(n > 1 for cut in cuts for _, n, _ in _groups(cut)):
            note("A small number says of how many tokens a piece is that cannot be shown apart.")
    else:
        note(f"Only counts are told of texts of more than {MOST_SHOWN_CHARACTERS} characters; --json has every token.")
    scripts = {script: script.upper() for cut in cuts for script in cut.by_script}
    head = ["MODEL", "TOKENS", "PER CHARACTER", *scripts.values(), "VOCABULARY", "CONTEXT", "OF IT"]
    rows = [_row(counts(cut), scripts) for cut in cuts]
    data_table([head, *rows], right=range(1, len(head)))
    if len(scripts) > 1:
        note("KOREAN and ENGLISH: tokens per letter, of the letters of each.")


def _row(found: Mapping[str, Any], scripts: Iterable[str]) -> list[str]:
    context, share = found["context_tokens"], found["context_share"]
    by_script = [found["tokens_per_letter"].get(script) for script in scripts]
    return [
        found["name"],
        str(found["n_tokens"]),
        _ratio(found["tokens_per_character"]),
        *map(_ratio, by_script),
        str(found["vocabulary_size"]),
        "unknown" if context is None else str(context),
        "unknown" if share is None else f"{share:.1%}",
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _groups(cut: Cut) -> Iterator[tuple[str, int, bool]]:
    """Pieces of the text in order: what it says, of how many tokens it is (0: between tokens), whether control."""
    at = 0
    waiting: tuple[int, int, int] | None = None  # begin, end and number of tokens of a piece that may grow
    for token in cut.tokens:
        if waiting is not None and token.start < waiting[1]:
            waiting = waiting[0], max(waiting[1], token.end), waiting[2] + 1
            continue
        if waiting is not None:
            yield cut.text[waiting[0] : waiting[1]], waiting[2], False
            at, waiting = waiting[1], None
        if token.start > at:
            yield cut.text[at : token.start], 0, False
            at = token.start
        if token.end > token.start and not token.is_control:
            waiting = token.start, token.end, 1
        else:
            yield token.text, 1, True
            at = max(at, token.end)
    if waiting is not None:
        yield cut.text[waiting[0] : waiting[1]], waiting[2], False
        at = waiting[1]
    if at < len(cut.text):
        yield cut.text[at:], 0, False


def _paint(groups: Iterable[tuple[str, int, bool]]) -> None:
    """In colours on a terminal, else with lines between tokens."""
    pieces = [
        (f"{said}{str(n).translate(_SUBSCRIPTS) if n > 1 else ''}", n, is_control) for said, n, is_control in groups
    ]
    if not sys.stdout.isatty():
        data(_SEPARATOR.join(said for said, _, _ in pieces))
        return
    from rich.console import Console
    from rich.text import Text as RichText

    painted = RichText()
    n_painted = 0
    for said, n_tokens, is_control in pieces:
        style = "dim" if n_tokens == 0 else "reverse" if is_control else f"bold white {_COLOURS[n_painted % 5]}"
        painted.append(harmless(said).replace("\n", "⏎\n"), style)
        n_painted += n_tokens > 0
    Console().print(painted, soft_wrap=True)


def _show_costs(models: Sequence[OpenedTokenizer], texts: tuple[str, str], *, special: bool, as_json: bool) -> None:
    """The same in two languages: what the first takes for each token of the second."""
    from madang.runtime.tokens import cut

    found = [[counts(cut(model, text, special=special)) for text in texts] for model in models]
    rows = [
        {
            "name": korean["name"],
            "korean": korean,
            "english": english,
            "ratio": korean["n_tokens"] / english["n_tokens"],
        }
        for korean, english in found
    ]
    if as_json:
        data_json({"n_characters": {"korean": len(texts[0]), "english": len(texts[1])}, "models": rows})
        return
    head = ["MODEL", "KOREAN", "PER CHARACTER", "ENGLISH", "PER CHARACTER", "KOREAN/ENGLISH"]
    cells = [
        [
            row["name"],
            str(row["korean"]["n_tokens"]),
            _ratio(row["korean"]["tokens_per_character"]),
            str(row["english"]["n_tokens"]),
            _ratio(row["english"]["tokens_per_character"]),
            _ratio(row["ratio"]),
        ]
        for row in rows
    ]
    data_table([head, *cells], right=range(1, len(head)))
    note("KOREAN/ENGLISH: tokens of the first text for each token of the second, which says the same.")
