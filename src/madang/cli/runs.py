"""``madang runs``: evaluations and trainings that were kept, listed, shown and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.compare import LanguageOption, languages_of
from madang.cli.console import data, data_json, data_table, facts, note
from madang.cli.eval import facts_in_line, print_differences, print_results
from madang.cli.ledger import ledger
from madang.core.errors import InvalidRequest
from madang.core.units import format_duration

if TYPE_CHECKING:
    from madang.evaluation import EvaluationResult
    from madang.storage import Experiment

Run = Annotated[int, typer.Argument(metavar="RUN", min=1, max=2**62, help="Its number in the list.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")]


def list_runs(
    ctx: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="WORD", help="Only those of a kind: eval, tune, distill, prune, merge."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only those of this model.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="At most so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """List the runs, the newest first."""
    found = ledger(options.settings_of(ctx).home).list(kind=kind, model=model, limit=limit)
    if as_json:
        data_json({"runs": [_short_document(own) for own in found]})
        return
    if not found:
        note("There are no runs yet. Begin one with: madang eval MODEL --task NAME")
        return
    rows = [
        [str(own.id), own.kind, own.model, facts_in_line(own.facts), format_duration(own.seconds), _time(own)]
        for own in found
    ]
    data_table([["RUN", "KIND", "MODEL", "SCORES", "TOOK", "MADE"], *rows], right=[0])


def show(
    ctx: typer.Context, run: Run, html: HtmlFile = None, language: LanguageOption = "en", as_json: options.Json = False
) -> None:
    """Show a run: what was measured, on which file, with which settings and prompts."""
    from madang.core.writing import write_atomically
    from madang.evaluation.outcomes_page import outcomes_page

    languages = languages_of(language)
    own = ledger(options.settings_of(ctx).home).find(run)
    if html is not None:
        write_atomically(html, outcomes_page(_with_base(own), languages))
    if as_json:
        data_json({**_short_document(own), "document": dict(own.document)})
        return
    facts(
        {
            "run": str(own.id),
            "kind": own.kind,
            "model": own.model,
            "sha256": own.digest,
            "made": _time(own),
            "took": format_duration(own.seconds),
        }
    )
    if "tasks" in own.document or "evaluation" in own.document:
        results = _with_base(own)
        data("")
        print_results(results)
        for task in (one for one in results[-1].tasks if one.example):
            data(f"\n{task.name}, version {task.version}, the first prompt:\n{task.example}")


def compare(
    ctx: typer.Context,
    before: Annotated[int, typer.Argument(metavar="BEFORE", min=1, max=2**62, help="The number of a run.")],
    after: Annotated[int, typer.Argument(metavar="AFTER", min=1, max=2**62, help="The number of another.")],
    *,
    html: HtmlFile = None,
    language: LanguageOption = "en",
    as_json: options.Json = False,
) -> None:
    """Compare two runs on the items that both were asked: differences, flips, and what may be chance."""
    from madang.core.writing import write_atomically
    from madang.evaluation import compare_results
    from madang.evaluation.outcomes_page import outcomes_page

    languages = languages_of(language)
    kept = ledger(options.settings_of(ctx).home)
    results = [_evaluation(kept.find(id)) for id in (before, after)]
    found = compare_results(*results)
    if html is not None:
        write_atomically(html, outcomes_page(results, languages))
    if as_json:
        data_json({"before": before, "after": after, "tasks": [own.to_dict() for own in found]})
        return
    data(f"{results[1].model['label']} (run {after}) against {results[0].model['label']} (run {before}):")
    print_differences(found)


def rm(ctx: typer.Context, run: Run) -> None:
    """Forget a run."""
    ledger(options.settings_of(ctx).home).remove(run)
    note(f"Run {run} was removed.")


def _evaluation(own: Experiment) -> EvaluationResult:
    """What it measured: the document of an evaluation, or what a training keeps under "evaluation"."""
    from madang.evaluation import EvaluationResult

    document = own.document if own.kind == "eval" else own.document.get("evaluation")
    if document is None:
        raise InvalidRequest(f"Run {own.id} measured nothing that can be compared.", param="run")
    return EvaluationResult.from_dict(document)


def _with_base(own: Experiment) -> list[EvaluationResult]:
    """What it measured, after the same of its base where it has one."""
    from madang.evaluation import EvaluationResult

    base = own.document.get("evaluation_of_base")
    return [*([] if base is None else [EvaluationResult.from_dict(base)]), _evaluation(own)]


def _time(own: Experiment) -> str:
    return f"{own.made_at.astimezone():%Y-%m-%d %H:%M}"


def _short_document(own: Experiment) -> dict[str, Any]:
    return {
        "run": own.id,
        "kind": own.kind,
        "model": own.model,
        "sha256": own.digest,
        "made_at": own.made_at.isoformat(timespec="seconds"),
        "seconds": own.seconds,
        **own.facts,
    }
