"""Tasks of evaluation/ put to the base and to what a run made of it, in the engine that will run both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from madang.core.engine import AdapterHost, Engine
from madang.core.errors import InvalidRequest
from madang.core.request import AdapterChoice
from madang.core.settings import load_settings
from madang.evaluation import TaskResult
from madang.evaluation.asking import ask
from madang.evaluation.kept import KeptSteps
from madang.evaluation.running import Tell, run_task
from madang.evaluation.tasks import Task
from madang.runtime import open_model

_ADAPTER = "tuned"


def score_tasks(
    base: Path, tuned: Path, tasks: Sequence[Task], *, limit: int, n_threads: int, tell: Tell
) -> tuple[list[TaskResult], list[TaskResult]]:
    """Results of the base and of ``tuned``, which is a PEFT folder for that base or a model's folder.

    Weights are those that ``madang run`` has: not those in 4 bits that a QLoRA run looked at. ``limit`` is of items of
    each task. Raises what opening and asking raise, InvalidRequest where the engine takes no adapters.
    """

    def score(engine: Engine, adapter: AdapterChoice | None, who: str) -> list[TaskResult]:
        return [
            run_task(
                lambda prompts: ask(engine, [replace(p, request=replace(p.request, adapter=adapter)) for p in prompts]),
                task,
                KeptSteps(None),
                limit=limit,
                tell=lambda name, done, total: tell(f"{who}, {name}", done, total),
            )
            for task in tasks
        ]

    settings = load_settings({"threads": n_threads}, {})
    with closing(open_model(str(base.absolute()), settings)) as engine:
        before = score(engine, None, "base")
        if (tuned / "adapter_config.json").exists():
            if not isinstance(engine, AdapterHost):
                raise InvalidRequest(f"The {engine.info.engine} engine, which runs this base, takes no adapters.")
            return before, score(engine, AdapterChoice(engine.load_adapter(tuned, _ADAPTER)), "tuned")
    with closing(open_model(str(tuned.absolute()), settings)) as engine:
        return before, score(engine, None, "tuned")
