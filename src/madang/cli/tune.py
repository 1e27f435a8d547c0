"""``madang tune``: fine-tune a model, and say what that changed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.cli.eval import find_tasks
from madang.cli.ledger import keep_run, tell_run
from madang.cli.pull import watching
from madang.cli.sizing import Teller
from madang.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from madang.storage import Experiment
    from madang.training.loop import StepLog
    from madang.training.runs import RunFolder
    from madang.training.tuning import Prepared


def _option(name: str, metavar: str, help: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help)


Config = Annotated[str | None, typer.Argument(metavar="CONFIG", help="A TOML file, or a recipe: korean-qa.")]
Model = Annotated[str | None, _option("--model", "MODEL", "The base: a name, a GGUF file, a Hugging Face folder.")]
Data = Annotated[str | None, _option("--data", "FILE", "Examples: chat JSONL, ShareGPT, Alpaca, CSV, text.")]
Form = Annotated[str | None, _option("--form", "WORD", "How they are written, where the file does not tell.")]
Method = Annotated[str | None, _option("--method", "WORD", "full, lora or qlora (base in 4 bits). Unset: lora.")]
Rank = Annotated[int | None, _option("--rank", "N", "Of the adapter. Unset: 16.")]
Alpha = Annotated[float | None, _option("--alpha", "A", "Scale of the adapter. Unset: twice the rank.")]
Rslora = Annotated[bool | None, typer.Option("--rslora", help="Scale by alpha over the square root of the rank.")]
Dora = Annotated[bool | None, typer.Option("--dora", help="Learn the length of each row apart (DoRA).")]
Adapter = Annotated[str | None, _option("--adapter", "FOLDER", "Go on with this LoRA adapter of the base.")]
Rate = Annotated[float | None, _option("--learning-rate", "R", "Highest one. Unset follows method and size.")]
Epochs = Annotated[float | None, _option("--epochs", "N", "How often each example is seen. Unset: once.")]
Steps = Annotated[int | None, _option("--steps", "N", "Optimizer steps, in place of epochs.")]
BatchTokens = Annotated[int | None, _option("--batch-tokens", "N", "Tokens of a step. Unset follows the data.")]
RowTokens = Annotated[int | None, _option("--row-tokens", "N", "Tokens computed at once; fewer take less memory.")]
MaxTokens = Annotated[int | None, _option("--max-tokens", "N", "Longest example. Unset: 2048.")]
Examples = Annotated[int | None, _option("--examples", "N", "Use so many, spread over the data. Unset: all.")]
Validation = Annotated[str | None, _option("--validation", "FILE", "Held-out examples. Unset: a tenth of the data.")]
Forgetting = Annotated[str | None, _option("--forgetting", "FILE", "Text that should not get worse.")]
Tasks = Annotated[
    str | None, _option("--tasks", "NAME,…", "Tasks of 'madang eval' to put to the base and to what came of it.")
]
TaskItems = Annotated[int | None, _option("--task-items", "N", "Of each task, the first N items. Unset: 100.")]
Seed = Annotated[int | None, _option("--seed", "N", "Of order and adapter. Unset: 0.")]
Checkpointing = Annotated[
    bool | None,
    typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="Compute twice, keep less."),
]
Resume = Annotated[str | None, _option("--resume", "RUN", "Go on with an interrupted run, where it was.")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Only say how it would run, how long, and in how much memory.")]


def tune(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    config: Config = None,
    *,
    model: Model = None,
    data: Data = None,
    form: Form = None,
    method: Method = None,
    rank: Rank = None,
    alpha: Alpha = None,
    rslora: Rslora = None,
    dora: Dora = None,
    adapter: Adapter = None,
    learning_rate: Rate = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_tokens: BatchTokens = None,
    row_tokens: RowTokens = None,
    max_tokens: MaxTokens = None,
    examples: Examples = None,
    validation: Validation = None,
    forgetting: Forgetting = None,
    tasks: Tasks = None,
    task_items: TaskItems = None,
    gradient_checkpointing: Checkpointing = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    seed: Seed = None,
    resume: Resume = None,
    plan: PlanOnly = False,
    as_json: options.Json = False,
) -> None:
    """Fine-tune a model on examples, and compare it with its base.

    Options win over CONFIG. Before the first step it says what it will do, how long and in how much memory, and refuses
    what does not fit. Ctrl-C keeps a checkpoint; --resume goes on there, exactly.
    """
    given = {name: value for name, value in locals().items() if name in _VALUES and value is not None}
    _run(ctx, config, given, resume, plan_only=plan, as_json=as_json)


_VALUES = (
    *("model", "data", "form", "method", "rank", "alpha", "rslora", "dora", "adapter", "learning_rate", "epochs"),
    *("steps", "batch_tokens", "row_tokens", "max_tokens", "examples", "validation", "forgetting"),
    *("tasks", "task_items", "gradient_checkpointing", "dtype", "threads", "seed"),
)


def _run(
    ctx: typer.Context,
    config: str | None,
    given: dict[str, Any],
    resume: str | None,
    *,
    plan_only: bool,
    as_json: bool,
) -> None:
    from madang.core.errors import InvalidRequest
    from madang.hardware import probe_machine
    from madang.training.config import config_of, read_values
    from madang.training.runs import find_run
    from madang.training.tuning import prepare, tune

    settings = options.settings_of(ctx)
    home = settings.home
    run = None if resume is None else find_run(home, resume)
    if run is not None:
        if config is not None or given:
            raise InvalidRequest("A run goes on as it was begun.", param="resume", hint="Give --resume alone.")
        chosen = run.config()
    else:
        values = {} if config is None else read_values(config)
        if "steps" in given:
            values.pop("epochs", None)
        chosen = config_of({**values, **given})
    names = [name.strip() for name in (chosen.tasks or "").split(",") if name.strip()]
    tasks = find_tasks(names, settings) if names else []
    with watching(f"Reading {chosen.model}") as progress:
        prepared = prepare(chosen, home, probe_machine(home), tasks=tasks, progress=progress)
    if plan_only and as_json:
        data_json(prepared.plan.to_dict())
        return
    _tell_plan(prepared, to_stdout=plan_only)
    if plan_only:
        return
    with _stopping() as stop:
        tuned = tune(prepared, home, run=run, stop=stop, watcher=_Teller(), began=_tell_run)
    if tuned.outcome.ended == "interrupted":
        note(f"Interrupted after step {tuned.outcome.steps}. Go on with: madang tune --resume {tuned.run.id}")
        raise typer.Exit(130)
    if tuned.result is None:  # the first process tells
        return
    id = keep_run(home, experiment_of(tuned.result))
    _tell_result(tuned.run, tuned.result, as_json)
    tell_run(id)


def experiment_of(result: Mapping[str, Any]) -> Experiment:
    """A finished run as the ledger has it."""
    from madang.storage import Experiment

    def figures(document: Mapping[str, Any]) -> dict[str, Any]:
        found = {task["name"]: task["figures"].get(task["metric"]) for task in document["tasks"]}
        return {name: figure for name, figure in found.items() if figure is not None}

    return Experiment(
        kind="tune",
        model=result["base"]["model"],
        digest=result["base"]["sha256"],
        made_at=datetime.fromisoformat(result["made_at"]),
        seconds=result["training"]["seconds"],
        facts={
            "id": result["id"],
            "method": result["config"]["method"],
            "scores": figures(result["evaluation"]),
            "before": figures(result["evaluation_of_base"]),
        },
        document=result,
    )


def _tell_plan(prepared: Prepared, *, to_stdout: bool) -> None:
    plan = prepared.plan
    eta = "unknown" if plan.eta_s is None else format_duration(plan.eta_s)
    rows = [[name.replace("_", " "), str(one.value), one.reason] for name, one in plan.choices().items()]
    memory = format_bytes(plan.memory.total_bytes)
    last = (
        f"{len(prepared.data.items)} examples to learn, {len(prepared.data.held_out)} held out; "
        f"{plan.n_trained:,} weights change; about {eta}, {memory} of memory."
    )
    if to_stdout:
        data_table(rows)
        data(last)
        return
    for name, value, reason in rows:
        note(f"  {name}: {value} ({reason})")
    problems = prepared.data.told["problems"]
    if problems:
        note(f"Note: {len(problems)} rows cannot be used; line {problems[0]['line']}: {problems[0]['sentence']}.")
    n_long = prepared.data.told["learned"]["too_long"]
    if n_long:
        note(f"Note: {n_long} examples have more than {plan.max_tokens.value} tokens: {prepared.config.too_long}.")
    note(last)


def _tell_run(run: RunFolder) -> None:
    note(f"Run {run.id}; its files are in {run.path}")


class _Teller:
    """A line that is written over, on a terminal; every now and then one more, elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._asking = Teller()

    def stepped(self, log: StepLog, n_steps: int, left_s: float) -> None:
        every = 1 if self._is_terminal else max(1, n_steps // 20)
        if log.step % every == 0 or log.step == n_steps:
            line = (
                f"step {log.step}/{n_steps}  loss {log.loss:.3f}  rate {log.learning_rate:.2e}  "
                f"{log.tokens_s:.0f} tokens/s  {format_duration(left_s)} left"
            )
            note(f"\r{line:<78}" if self._is_terminal else line, end="" if self._is_terminal else "\n")

    def judged(self, step: int, loss: float, is_best: bool) -> None:
        note(
            f"{chr(10) if self._is_terminal else ''}step {step}: held-out loss {loss:.3f}{', best' if is_best else ''}"
        )

    def asked(self, what: str, done: int, total: int) -> None:
        self._asking(what, done, total)


@contextmanager
def _stopping() -> Iterator[Event]:
    """Set by the first interrupt, so that the step ends and is kept; a second one ends at once."""
    stop = Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("\nEnding after this step; once more ends at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_result(run: RunFolder, result: Mapping[str, Any], as_json: bool) -> None:
    from madang.training.curve import Place, terminal_curve
    from madang.training.reporting import comparison_rows, forgetting_advice

    for line in (forgetting_advice(result), result["tasks_problem"]):
        if line is not None:
            note(f"Note: {line}")
    if as_json:
        data_json({**result, "path": str(run.path)})
        return
    places = [Place(one["step"], one["loss"]) for one in run.journal().entries() if "loss" in one]
    for line in terminal_curve(places):
        note(line)
    data_table([["measure", "before", "after", "difference", ""], *comparison_rows(result)])
    made = run.model if run.model.exists() else run.adapter
    data(f"{made}\n{run.report}")
