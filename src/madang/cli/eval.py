"""``madang eval``: benchmarks and tasks of one's own, on one model or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.compare import LanguageOption, languages_of
from madang.cli.console import data, data_json, data_table, note
from madang.cli.ledger import keep_run
from madang.cli.sizing import Teller
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.evaluation import EvaluationResult, Task, TaskDifference, TaskResult

DATA_FOLDER = "data"  # below home, where nobody names another

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL...", help="Models, each with @ENGINE behind it if it is to be that one."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME[=FILE]", help="A task, or the YAML or JSONL file of one; several times."),
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FOLDER", help="Where data is looked for. Unset: MADANG_HOME/data.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, max=1_000_000, help="Only the first N items of each task.")
]
Shots = Annotated[
    int, typer.Option("--shots", metavar="N", min=0, max=1000, help="The first N rows are solved examples, not asked.")
]
Form = Annotated[
    bool | None, typer.Option("--chat/--raw", help="Put texts as a chat, or chats as texts; unset: as the task has it.")
]
RunCode = Annotated[bool, typer.Option("--run-code", help="Run programs that models write, in a sandbox.")]
ListTasks = Annotated[bool, typer.Option("--list", help="List the tasks that are known by name.")]
ShowPrompts = Annotated[bool, typer.Option("--show-prompts", help="Print the first prompt of each task, and stop.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ask everything again, also what is kept from before.")]


@options.running(without=("speculation",))
def evaluate(  # noqa: PLR0913  (a command line's options are its parameters)
    models: Models = None,
    *,
    settings: Settings,
    tasks: Tasks = None,
    data_folder: Data = None,
    limit: Limit = None,
    shots: Shots = 0,
    chat: Form = None,
    run_code: RunCode = False,
    list_tasks: ListTasks = False,
    show_prompts: ShowPrompts = False,
    html: HtmlFile = None,
    language: LanguageOption = "en",
    fresh: Fresh = False,
    as_json: options.Json = False,
) -> None:
    """Score models on benchmarks and tasks of your own; several are compared with the first, item by item.

    What is interrupted goes on next time. Each result is kept: see madang runs.
    """
    from madang.core.writing import write_atomically
    from madang.evaluation.outcomes_page import outcomes_page

    if list_tasks:
        _print_tasks(as_json)
        return
    languages = languages_of(language)
    if html is not None and html.is_dir():
        raise InvalidRequest(f"--html: {html} is a folder.", param="html", hint="Name a file in it.")
    chosen = find_tasks(tasks or [], settings, data_folder, shots=shots, run_code=run_code or show_prompts)
    if show_prompts:
        _print_prompts(chosen, chat, as_json)
        return
    if run_code:
        _note_sandbox()
    results = _run(models or [], settings, chosen, limit=limit, chat=chat, fresh=fresh)
    ids = [_keep(settings, result) for result in results]
    if html is not None:
        write_atomically(html, outcomes_page(results, languages))
    if as_json:
        data_json(_document(results, ids))
    else:
        print_results(results)
        _note_ids(ids)


def find_tasks(
    names: Sequence[str], settings: Settings, folder: Path | None = None, *, shots: int = 0, run_code: bool = False
) -> list[Task]:
    """Those of these names, with data from ``folder`` or home. Raises InvalidRequest, UnknownOption."""
    from madang.evaluation import DataPlace, find_task

    if not names:
        raise InvalidRequest("No task was named.", param="task", hint="See: madang eval --list")
    own = settings.home / DATA_FOLDER
    if folder is None and own.is_dir():
        folder = own
    place = DataPlace(folder, settings.offline, settings.hf_endpoint)
    found = [find_task(name, place, n_shots=shots, runs_code=run_code) for name in names]
    again = next((task.name for task in found if [other.name for other in found].count(task.name) > 1), None)
    if again is not None:
        raise InvalidRequest(f"The task '{again}' was named more than once.", param="task")
    return found


def _note_sandbox() -> None:
    from madang.evaluation.sandbox import sandbox_coverage

    covered, missing = sandbox_coverage()
    note(f"Programs that models write are run here. Covered: {'; '.join(covered)}.")
    note(f"Not covered: {'; '.join(missing)}.")


def _run(
    models: Sequence[str],
    settings: Settings,
    tasks: Sequence[Task],
    *,
    limit: int | None,
    chat: bool | None,
    fresh: bool,
) -> list[EvaluationResult]:
    from madang.cli.pull import fetcher
    from madang.evaluation import EvaluationPlan, enter, parse_contestants
    from madang.evaluation import evaluate as evaluate_models

    if not models:
        raise InvalidRequest("No model was named.", param="model", hint="For example: madang eval MODEL --task NAME")
    entrants = enter(parse_contestants(models, settings.engine), settings, fetcher(settings))
    plan = EvaluationPlan(tasks=tuple(tasks), limit=limit, as_chat=chat)
    try:
        return evaluate_models(entrants, settings, plan, fresh=fresh, tell=Teller())
    except KeyboardInterrupt:
        note("Interrupted. What was answered is kept: the same command goes on from there.")
        raise


def _keep(settings: Settings, result: EvaluationResult) -> int | None:
    """The id in the ledger; None of what measured nothing."""
    from madang.storage import Experiment

    if result.failed is not None and all(task.problem is not None for task in result.tasks):
        return None
    own = Experiment(
        kind="eval",
        model=result.model["label"],
        digest=result.model["digest"],
        made_at=datetime.fromisoformat(result.made_at),
        seconds=sum(task.seconds for task in result.tasks),
        facts={"scores": {task.name: task.figure for task in result.tasks if task.figure is not None}},
        document=result.to_dict(),
    )
    return keep_run(settings.home, own)


def _document(results: Sequence[EvaluationResult], ids: Sequence[int | None]) -> dict[str, Any]:
    documents = [{"run": id, **result.to_dict()} for id, result in zip(ids, results, strict=True)]
    against = [
        {"before": results[0].model["label"], "after": result.model["label"], "tasks": [d.to_dict() for d in found]}
        for result, found in differences_from_first(results)
    ]
    return {"models": documents, "against_first": against}


# ---- what people see


def _print_tasks(as_json: bool) -> None:
    from madang.evaluation.tasks.table import ENTRIES

    if as_json:
        data_json({"tasks": [{"name": name, "about": entry.about} for name, entry in ENTRIES.items()]})
        return
    data_table([["TASK", "ABOUT"], *([f"{n}:PART" if e.takes_part else n, e.about] for n, e in ENTRIES.items())])


def _print_prompts(tasks: Sequence[Task], as_chat: bool | None, as_json: bool) -> None:
    from madang.evaluation.running import in_form, shown

    first = {task.name: (task, shown(in_form(task.prompt(task.items()[0]), as_chat))) for task in tasks}
    if as_json:
        data_json({"tasks": [{"name": n, "version": t.version, "prompt": p} for n, (t, p) in first.items()]})
        return
    for name, (task, prompt) in first.items():
        data(f"{name}, version {task.version}, {len(task.items())} items, {task.metric}\n{prompt}\n")


def print_results(results: Sequence[EvaluationResult]) -> None:
    """A table of tasks and models, and how the others differ from the first."""
    rows = [["MODEL", "TASK", "METRIC", "N", "SCORE", "±SE", "95 %", "ITEMS/S"]]
    for result in results:
        for task in result.tasks:
            rows += _rows(result.model["label"], task)
    data_table(rows, right=[3, 4, 5, 7])
    for result, found in differences_from_first(results):
        data(f"\n{result.model['label']} against {results[0].model['label']}:")
        print_differences(found)
    for result in results:
        if result.failed is not None:
            note(f"Note: {result.model['label']} could not be asked further. {result.failed}")
        for task in result.tasks:
            if task.problem is not None:
                note(f"Note: {result.model['label']}, {task.name}: {task.problem}")
            elif task.n_failed:
                reason = next(item["problem"] for item in task.items if item.get("problem"))
                note(f"Note: {result.model['label']}, {task.name}: {task.n_failed} items count as wrong. {reason}")


def _rows(label: str, task: TaskResult) -> list[list[str]]:
    from madang.evaluation.outcomes_page import shown_value

    if task.figure is None:
        return [[label, task.name, task.metric, "0", "-", "-", "-", "-"]]
    rate = f"{len(task.items) / task.seconds:.1f}" if task.seconds > 0 else "-"
    rows = []
    for metric, figure in task.figures.items():
        is_own = metric == task.metric
        rows.append(
            [
                label if is_own else "",
                task.name if is_own else "",
                metric,
                str(len(task.items)) if is_own else "",
                shown_value(metric, figure["value"]),
                "-" if figure["standard_error"] is None else shown_value(metric, figure["standard_error"]),
                "-" if figure["low"] is None else "–".join(shown_value(metric, figure[end]) for end in ("low", "high")),
                rate if is_own else "",
            ]
        )
    return rows


def differences_from_first(
    results: Sequence[EvaluationResult],
) -> list[tuple[EvaluationResult, list[TaskDifference]]]:
    """Each other model, and its tasks that can be compared with the first model's."""
    from madang.evaluation import compare_results

    found = []
    for result in results[1:]:
        try:
            found.append((result, compare_results(results[0], result)))
        except InvalidRequest:
            continue  # neither has figures of one task
    return found


def print_differences(found: Sequence[TaskDifference]) -> None:
    """Before, after, and what changed; ≈ marks what may be chance."""
    rows = [["TASK", "METRIC", "N", "BEFORE", "AFTER", "DIFFERENCE", "GAINED", "LOST", "P"]]
    rows += [_difference_row(own) for own in found]
    data_table(rows, right=[2, 3, 4, 6, 7, 8])
    data("≈ may be chance: the 95 % interval of the difference includes none. P: of flips as uneven by chance.")


def _difference_row(own: TaskDifference) -> list[str]:
    from madang.evaluation.outcomes_page import shown_difference, shown_value

    flips = ["-" if ids is None else str(len(ids)) for ids in (own.gained, own.lost)]
    chance = "-" if own.p_value is None else f"{own.p_value:.3f}"
    values = [shown_value(own.metric, value) for value in (own.before, own.after)]
    return [own.name, own.metric, str(own.n), *values, shown_difference(own), *flips, chance]


def _note_ids(ids: Sequence[int | None]) -> None:
    known: Sequence[int] = [id for id in ids if id is not None]
    if known:
        note(f"Kept as run {', '.join(map(str, known))}; see: madang runs show {known[0]}")


def facts_in_line(facts: Mapping[str, Any]) -> str:
    """The scores of a run in a list, after those of its base where it has one."""
    before = facts.get("before", {})
    told = [
        f"{name} {before[name]['value']:.3g} → {figure['value']:.3g}"
        if name in before
        else f"{name} {figure['value']:.3g}"
        for name, figure in facts.get("scores", {}).items()
    ]
    return ", ".join(told) or "-"
