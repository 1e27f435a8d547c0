"""``madang data``: training data checked, rendered and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, facts, note
from madang.core.errors import InvalidRequest

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.training.examples import EncodedSet, EncodingReport, Example, TooLong
    from madang.training.examples.encoding import Encoded

MOST_PROBLEMS = 1000  # that are told one by one
_SHOWN_PROBLEMS = 20

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A file (.jsonl .json .csv .tsv .txt .md, perhaps .gz; .parquet) or hf:owner/name."
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--form", metavar="WORD", help="chat, sharegpt, alpaca, completion, qa or text. Unset: as its rows look."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file of JSON lines. Unset: only a report.")
]
OfModel = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="Count its tokens, as its chat template writes it.")
]
RenderFor = Annotated[str, typer.Option("--model", metavar="MODEL", help="Whose chat template and tokenizer it is.")]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=2, max=10_000_000, help="Most tokens of a sequence.")
]
TooLongWord = Annotated[
    str, typer.Option("--too-long", metavar="WORD", help="What has more: drop, cut, split (plain text) or refuse.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, max=1000, help="Sequences to show.")]
Share = Annotated[float, typer.Option("--share", metavar="S", min=0, max=0.99, help="Of the examples, to keep aside.")]
SplitSeed = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="Same seed, same split.")]
TrainFile = Annotated[
    Path | None, typer.Option("--train", metavar="FILE", help="Unset: DATA's name with .train.jsonl, in this folder.")
]
ValidationFile = Annotated[
    Path | None, typer.Option("--validation", metavar="FILE", help="Unset: the same with .validation.jsonl.")
]


class Usable:
    """The examples of a source; rows that are none are counted on the way, and left out."""

    def __init__(self, name: str, form: str | None, *, otherwise: str | None = None) -> None:
        from madang.training.examples import open_examples

        self.source = open_examples(name, form, otherwise=otherwise)
        self.problems: list[dict[str, Any]] = []
        self.unusable = 0

    def __iter__(self) -> Iterator[Example]:
        from madang.training.examples import Problem

        self.problems, self.unusable = [], 0
        for row in self.source:
            if not isinstance(row, Problem):
                yield row
                continue
            self.unusable += 1
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append({"line": row.line, "problem": row.sentence})

    def document(self) -> dict[str, Any]:
        """For JSON: where the examples came from, and which rows are none."""
        return {
            "data": self.source.name,
            "form": self.source.form,
            "unusable": self.unusable,
            "problems": self.problems,
        }

    def tell(self) -> None:
        """The rows that are none, on stderr."""
        for problem in self.problems[:_SHOWN_PROBLEMS]:
            note(f"{self.source.name}, line {problem['line']}: {problem['problem']}.")
        if self.unusable > _SHOWN_PROBLEMS:
            note(f"… and {self.unusable - _SHOWN_PROBLEMS} more; --json tells of up to {MOST_PROBLEMS}.")


def check(
    ctx: typer.Context,
    name: Data,
    *,
    form: Form = None,
    model: OfModel = None,
    max_tokens: MaxTokens = 2048,
    too_long: TooLongWord = "drop",
    as_json: options.Json = False,
) -> None:
    """Read training data and say what is in it and what cannot be used, line by line.

    The exit status is 1 when there is such a row.
    """
    rows = Usable(name, form)
    counts: Counter[str] = Counter()
    longest = 0

    def counted() -> Iterator[Example]:
        nonlocal longest
        for example in rows:
            counts["examples"] += 1
            counts["characters"] += len(example.everything)
            counts["answer characters"] += len(example.answer)
            counts.update(f"{message.role} messages" for message in example.messages)
            longest = max(longest, len(example.everything))
            yield example

    report = None
    if model is None:
        for _ in counted():
            pass
    else:
        report = _encoded(counted(), model, options.settings_of(ctx), max_tokens, too_long).report
    document = rows.document() | {"counts": dict(counts), "longest_characters": longest}
    if as_json:
        data_json(document | ({} if report is None else {"tokens": report.to_dict()}))
    else:
        shown = {"form": rows.source.form} | {key: f"{n:,}" for key, n in counts.items()}
        facts(shown | {"longest, characters": f"{longest:,}", "rows that cannot be used": f"{rows.unusable:,}"})
        if report is not None:
            _print_tokens(report)
        rows.tell()
    if rows.unusable or (report is not None and report.problems):
        raise typer.Exit(1)


def render(  # noqa: PLR0913
    ctx: typer.Context,
    name: Data,
    *,
    model: RenderFor,
    form: Form = None,
    max_tokens: MaxTokens = 2048,
    too_long: TooLongWord = "drop",
    limit: Limit = 3,
    output: Output = None,
    as_json: options.Json = False,
) -> None:
    """Show what a model is trained on, token by token: loss is taken between ⟦ and ⟧ only."""
    from madang.training.examples.writing import check_new, writing_examples

    if output is not None:
        check_new(output)
    rows = Usable(name, form)
    settings = options.settings_of(ctx)
    made = _encoded(rows, model, settings, max_tokens, too_long)
    if output is not None:
        with writing_examples(output) as write:
            for item in made.items:
                write({"input_ids": item.input_ids.tolist(), "labels": item.labels.tolist()})
    shown = [_pieces(item, model, settings) for item in made.items[:limit]]
    if as_json:
        data_json(rows.document() | {"tokens": made.report.to_dict(), "shown": shown})
        return
    for pieces in shown:
        data("".join(f"⟦{piece['text']}⟧" if piece["loss"] else piece["text"] for piece in pieces) + "\n")
    _print_tokens(made.report)
    rows.tell()
    if output is not None:
        note(f"Wrote {made.report.items} sequences to {output}.")


def split(
    name: Data,
    *,
    form: Form = None,
    share: Share = 0.1,
    seed: SplitSeed = 0,
    train: TrainFile = None,
    validation: ValidationFile = None,
    as_json: options.Json = False,
) -> None:
    """Keep a part aside to measure on; nearly the same questions stay on one side."""
    from madang.training.examples import split as split_examples
    from madang.training.examples.writing import check_new, row_of, writing_examples

    stem = Path(name.removeprefix("hf:")).name.partition(".")[0]
    train, validation = train or Path(f"{stem}.train.jsonl"), validation or Path(f"{stem}.validation.jsonl")
    if train == validation:
        raise InvalidRequest("Both parts would be the same file.", param="validation")
    check_new(train)
    check_new(validation)
    rows = Usable(name, form)
    made = split_examples(list(rows), share, seed)
    with writing_examples(train) as write_train, writing_examples(validation) as write_validation:
        for example in made.train:
            write_train(row_of(example))
        for example in made.validation:
            write_validation(row_of(example))
    files = {"train": str(train), "validation": str(validation)}
    counts = {"train": len(made.train), "validation": len(made.validation), "groups": made.groups}
    if as_json:
        data_json(rows.document() | {"counts": counts, "files": files, "seed": seed})
        return
    rows.tell()
    data(f"{counts['train']:,} examples in {train}, {counts['validation']:,} in {validation}")
    note(f"They ask {made.groups:,} different things; what is nearly the same is on one side.")


def _encoded(examples: Any, model: str, settings: Settings, max_tokens: int, too_long: str) -> EncodedSet:
    from typing import cast, get_args

    from madang.core.errors import UnknownOption
    from madang.formats.templates import template_for
    from madang.runtime.tokens import open_tokenizer
    from madang.training.examples import TooLong, encode

    if too_long not in get_args(TooLong):
        raise UnknownOption("word for --too-long", too_long, get_args(TooLong))
    tokenizer = open_tokenizer(model, settings).tokenizer
    policy = cast("TooLong", too_long)
    return encode(examples, tokenizer, template_for(tokenizer), max_tokens=max_tokens, too_long=policy)


def _pieces(item: Encoded, model: str, settings: Settings) -> list[dict[str, Any]]:
    """Runs of tokens with and without loss, as text."""
    from itertools import groupby

    from madang.runtime.tokens import open_tokenizer
    from madang.training.examples import NO_LOSS

    tokenizer = open_tokenizer(model, settings).tokenizer
    pairs = zip(item.input_ids.tolist(), item.labels.tolist(), strict=True)
    runs = ((loss, [i for i, _ in run]) for loss, run in groupby(pairs, key=lambda pair: pair[1] != NO_LOSS))
    return [
        {"loss": loss, "tokens": ids, "text": b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace")}
        for loss, ids in runs
    ]


def _print_tokens(report: EncodingReport) -> None:
    facts(
        {
            "sequences": f"{report.items:,}",
            "tokens": f"{report.tokens:,}",
            "tokens with loss": f"{report.loss_tokens:,}",
            "longest, tokens": f"{report.longest_tokens:,}",
            f"over {report.max_tokens} tokens": f"{report.too_long:,}, {report.policy}",
        }
    )
    if report.without_end:
        note(
            f"Behind {report.without_end} answers the template writes no token that ends a turn: a model does not learn"
            " to stop from them."
        )
    if report.unlike_running:
        note(
            f"The prompts of {report.unlike_running} answers end differently when the model runs: its template begins"
            " the answer, as with reasoning, and the data does not."
        )
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        note(f"Line {problem.line}: {problem.sentence}")
    if len(report.problems) > _SHOWN_PROBLEMS:
        note(f"… and {len(report.problems) - _SHOWN_PROBLEMS} more that the template refuses.")
