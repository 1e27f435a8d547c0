"""One run from its config to its comparison with the base. Read :func:`tune` first.

config --data, model--> plan --build--> scores before --loop--> best weights --> scores after --> result.json, report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Final

from madang import __version__
from madang.core.errors import AdapterMismatch, InvalidRequest, MadangError
from madang.core.progress import Progress
from madang.core.writing import replacing, require_disk, within_disk
from madang.evaluation import Task, TaskResult, compare_results
from madang.evaluation.texts import built_in_text, text_of
from madang.hardware import Machine
from madang.hardware.residence import peak_bytes
from madang.training.batching import rows_of
from madang.training.building import build, gpu_free_bytes, measure_flops, require_packages, save_adapter, save_model
from madang.training.checkpoints import Checkpoints
from madang.training.config import TuneConfig
from madang.training.data import RunData, read_data
from madang.training.examples import Encoded
from madang.training.loop import Outcome, Training, Watcher
from madang.training.loss import Objective, takes_packed_rows
from madang.training.models import FolderModel, trainable
from madang.training.planning import RunPlan, choose_dtype, plan_run
from madang.training.processes import Processes, joined
from madang.training.reporting import run_page
from madang.training.runs import RunFolder, make_run, new_run_id
from madang.training.scoring import Scores, Standing, answers, as_evaluation, compared, standing, text_items
from madang.training.tasks import score_tasks

_KEPT_CHECKPOINTS: Final = 3  # the last, the one that replaces it, and the best
_SHOWN_ANSWERS: Final = 6


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is planned and not begun."""

    config: TuneConfig
    model: FolderModel
    data: RunData
    texts: Mapping[str, Sequence[Encoded]]
    plan: RunPlan
    tasks: Sequence[Task] = ()


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of a run; ``result`` is None where it was interrupted."""

    run: RunFolder
    outcome: Outcome
    result: dict[str, Any] | None


def prepare(
    config: TuneConfig,
    home: Path,
    machine: Machine,
    *,
    tasks: Sequence[Task] = (),
    progress: Progress | None = None,
) -> Prepared:
    """Read the data and the model's files, measure a product, and plan. Nothing is loaded or written yet.

    tasks   what base and tuned model are asked in the end, ``config.task_items`` items of each

    Raises EngineUnavailable, InvalidRequest, ModelNotFound, UnsupportedModel, NotEnoughMemory, with what to change.
    """
    require_packages(config)
    model = trainable(config.model, home, progress=progress)
    free_bytes = gpu_free_bytes()
    rough = plan_run(config, machine, model, gpu_free_bytes=free_bytes)
    data = read_data(config, model, rough.max_tokens.value)
    texts = text_items(_forgetting(config), model.tokenizer)
    n_read = sum(len(item.input_ids) for part in (data.held_out, *texts.values()) for item in part)
    dtype = choose_dtype(config, machine, free_bytes is not None).value
    width, inner = model.spec.n_embd, model.spec.n_ff
    plan = plan_run(
        config,
        machine,
        model,
        lengths=data.lengths,
        n_held_out_tokens=n_read,
        flops_per_s=measure_flops(dtype, rough.device.value, rough.threads.value, width, inner),
        gpu_free_bytes=free_bytes,
    )
    return Prepared(config, model, data, texts, plan, tasks)


def _forgetting(config: TuneConfig) -> Any:
    if config.forgetting is None:
        return built_in_text()
    path = Path(config.forgetting)
    try:
        return text_of(path.stem, path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as text: {error}.", param="forgetting") from error


def tune(
    prepared: Prepared,
    home: Path,
    *,
    run: RunFolder | None = None,
    stop: Event | None = None,
    watcher: Watcher | None = None,
    began: Callable[[RunFolder], None] | None = None,
) -> Tuned:
    """Train and compare with the base; ``run`` is one that was interrupted, to go on with.

    Raises TrainingFailed, NotEnoughDisk, AdapterMismatch for a run of another base; what was kept before stays.
    """
    with joined() as processes:
        run = _run_folder(prepared, home, run, processes)
        if began is not None and processes.is_first:
            began(run)
        return _Run(prepared, run, processes, stop or Event(), watcher).tuned()


def _run_folder(prepared: Prepared, home: Path, run: RunFolder | None, processes: Processes) -> RunFolder:
    if run is not None:
        _check_base(run, prepared.model)
        return run
    require_disk(home, prepared.plan.checkpoint_bytes * _KEPT_CHECKPOINTS)
    id = processes.told(new_run_id())
    if processes.is_first:
        run = make_run(home, prepared.config, id)
        run.write("base", {"model": prepared.model.files.name, "sha256": prepared.model.sha256})
    processes.wait()
    return RunFolder(home / "runs" / id)


def _check_base(run: RunFolder, model: FolderModel) -> None:
    base = run.read("base") or {}
    if base.get("sha256") != model.sha256:
        raise AdapterMismatch(run.id, "base", f"it was begun with weights of sha256 {str(base.get('sha256'))[:12]}…")


class _Run:
    """The parts of a run that need its torch model."""

    def __init__(
        self, prepared: Prepared, run: RunFolder, processes: Processes, stop: Event, watcher: Watcher | None
    ) -> None:
        self._prepared, self._run, self._processes = prepared, run, processes
        self._stop, self._watcher = stop, watcher
        plan = prepared.plan
        device = f"cuda:{processes.local_rank}" if plan.device.value == "cuda" else "cpu"
        self._model = build(prepared.config, plan, prepared.model, device)
        self._objective = Objective(self._model, device, plan.dtype.value)
        self._packed = takes_packed_rows(self._model.config, self._objective.causal)
        self._started = time.perf_counter()

    def tuned(self) -> Tuned:
        before = self._before()
        prepared = self._prepared
        row_tokens = prepared.plan.row_tokens.value
        held_out = [row for row, _ in rows_of(prepared.data.held_out, row_tokens, packed=self._packed)]
        checkpoints = Checkpoints(self._run.path, prepared.plan.checkpoint_bytes)
        training = Training(
            config=prepared.config,
            plan=prepared.plan,
            model=self._model,
            objective=self._objective,
            items=prepared.data.items,
            held_out=held_out,
            packed=self._packed,
            checkpoints=checkpoints,
            journal=self._run.journal(),
            processes=self._processes,
            stop=self._stop,
            watcher=self._watcher,
        )
        outcome = training.run()
        result = None
        if outcome.ended != "interrupted" and self._processes.is_first:
            checkpoints.load_best(self._model)
            self._save()
            result = self._result(before, outcome)
        self._processes.wait()
        return Tuned(self._run, outcome, result)

    def _before(self) -> dict[str, Any]:
        """Scores of the base; a run that goes on has them. Adapters begin as nothing, so nothing has to be undone."""
        found: dict[str, Any] | None = {}
        if self._processes.is_first:  # nobody else looks: the file may come between two looks
            found = self._run.read("before")
            if found is None:
                found = self._judged()
                self._run.write("before", found)
        self._processes.wait()
        return found or {}

    def _judged(self) -> dict[str, Any]:
        prepared = self._prepared
        row_tokens = prepared.plan.row_tokens.value
        parts = (self._objective, prepared.data.held_out, prepared.texts, row_tokens)
        found = standing(self._model, *parts, packed=self._packed)
        shown = answers(self._model, prepared.data.held_out[:_SHOWN_ANSWERS], prepared.model.tokenizer)
        return {"scores": _document(found), "answers": shown}

    def _save(self) -> None:
        """The adapter, or the whole model with the tokenizer's files."""
        config, n_bytes = self._prepared.config, self._prepared.plan.checkpoint_bytes
        target = self._made
        if target.exists():
            return
        require_disk(target.parent, n_bytes)
        with within_disk(target.parent, n_bytes), replacing(target) as folder:
            folder.mkdir()
            if config.method == "full":
                save_model(self._model, self._prepared.model.path, folder)
            else:
                save_adapter(self._model, folder)

    def _result(self, before: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
        after = self._judged()
        prepared = self._prepared
        old, new = _standing(before["scores"]), _standing(after["scores"])
        result = {
            "id": self._run.id,
            "madang": __version__,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "base": {"model": prepared.model.files.name, "sha256": prepared.model.sha256},
            "config": prepared.config.to_dict(),
            "plan": prepared.plan.to_dict(),
            "data": prepared.data.told,
            "training": {
                "ended": outcome.ended,
                "steps": outcome.steps,
                "final_loss": outcome.final_loss,
                "best_held_out_loss": outcome.best_loss,
                "tokens": outcome.tokens,
                "seconds": outcome.seconds,
                "packed_rows": self._packed,
                "processes": self._processes.n,
                "peak_bytes": peak_bytes(),
            },
            "before": old.to_dict(),
            "after": new.to_dict(),
            "difference": compared(old, new),
            **self._evaluations(old, new),
            "answers": [
                {**one, "after": other["said"]} for one, other in zip(before["answers"], after["answers"], strict=True)
            ],
        }
        self._run.write("after", after)
        self._run.write("result", result)
        self._run.report.write_text(run_page(result, list(self._run.journal().entries())), encoding="utf-8")
        return result

    def _evaluations(self, old: Standing, new: Standing) -> dict[str, Any]:
        """Base and tuned model as ``madang runs`` knows results, tasks included, and how they differ in those."""
        prepared = self._prepared
        parts = (prepared.data.held_out, prepared.texts)
        of_base = {"model": prepared.model.files.name, "digest": prepared.model.sha256}
        base = as_evaluation(old, *parts, {"label": prepared.model.files.name, **of_base})
        tuned = as_evaluation(new, *parts, {"label": self._run.id, **of_base})
        before, after, problem = self._task_results() if prepared.tasks else ([], [], None)
        base, tuned = replace(base, tasks=(*base.tasks, *before)), replace(tuned, tasks=(*tuned.tasks, *after))
        names = {task.name for task in prepared.tasks}
        return {
            "tasks": [own.to_dict() for own in compare_results(base, tuned) if own.name in names],
            "tasks_problem": problem,
            "evaluation_of_base": base.to_dict(),
            "evaluation": tuned.to_dict(),
        }

    def _task_results(self) -> tuple[list[TaskResult], list[TaskResult], str | None]:
        """Of the base, of what was made of it, and why some are missing: what was trained is worth more than they."""
        prepared = self._prepared
        del self._model, self._objective  # the engine that is asked needs the room
        try:
            before, after = score_tasks(
                prepared.model.path,
                self._made,
                prepared.tasks,
                limit=prepared.config.task_items,
                n_threads=prepared.plan.threads.value,
                tell=(lambda what, done, total: None) if self._watcher is None else self._watcher.asked,
            )
        except MadangError as error:
            return [], [], error.message
        return before, after, next((own.problem for own in (*before, *after) if own.problem is not None), None)

    @property
    def _made(self) -> Path:
        return self._run.model if self._prepared.config.method == "full" else self._run.adapter


def _document(found: Standing) -> dict[str, Any]:
    def raw(scores: Scores) -> dict[str, Any]:
        return {"nats": scores.nats, "tokens": scores.tokens, "exact": scores.exact}

    return {"held_out": raw(found.held_out), "texts": {part: raw(scores) for part, scores in found.texts.items()}}


def _standing(document: Mapping[str, Any]) -> Standing:
    def scores(raw: Mapping[str, Any]) -> Scores:
        return Scores(tuple(raw["nats"]), tuple(raw["tokens"]), tuple(raw["exact"]))

    return Standing(scores(document["held_out"]), {part: scores(raw) for part, raw in document["texts"].items()})
