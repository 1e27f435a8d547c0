"""``madang rag eval``: how well the questions of a file find their passages."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from madang.cli import options
from madang.cli.collecting import CollectionNames, Key, chosen, collections_of
from madang.cli.console import data_json, data_table, note
from madang.cli.rag import search_mode

_DEPTH = 10


def evaluate(
    ctx: typer.Context,
    questions: Annotated[
        Path,
        typer.Argument(
            metavar="QUESTIONS.jsonl",
            help="A JSON object on each line: question, and document, headings, text or start of what answers it.",
        ),
    ],
    *,
    collection: CollectionNames = None,
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", metavar="WORD", help="hybrid, dense or lexical; again for more. Unset: hybrid."),
    ] = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """Measure recall, mean reciprocal rank and refusals on questions whose passages are known."""
    from madang.rag.evaluating import outcomes, read_questions, report

    asked = read_questions(questions)
    with collections_of(options.settings_of(ctx)) as collections:
        names = chosen(collections, key, collection)
        reports = {}
        for word in mode or ["hybrid"]:
            search = partial(collections.search, key, names, limit=_DEPTH, mode=search_mode(word))
            measured = list(outcomes(asked, search))
            reports[word] = report(measured)
            missed = [one.question.question for one in measured if one.question.is_answerable and one.rank is None]
    if as_json:
        data_json({"collections": names, "modes": reports})
        return
    kinds = list(next(iter(reports.values())))
    rows = [[kind, *(_number(told[kind]) for told in reports.values())] for kind in kinds]
    data_table([["", *reports], *rows], right=[*range(1, 1 + len(reports))])
    if missed:
        note(f"Not among the first {_DEPTH}: {len(missed)}, such as: {missed[0]}")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
