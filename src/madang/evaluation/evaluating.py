"""Tasks for several models, each alone in a process of its own, one after the other, as in a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from madang import __version__
from madang.core.settings import Settings
from madang.evaluation.asking import prompt_document, response_of
from madang.evaluation.contestants import Entrant
from madang.evaluation.examining import Examination, settings_to_tell
from madang.evaluation.kept import KeptSteps, key_of
from madang.evaluation.outcomes import EvaluationResult
from madang.evaluation.running import Tell, now, run_task
from madang.evaluation.tasks.task import Prompt, Response, Task

FOLDER = "evaluations"  # below home


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What every model is asked.

    limit     items of each task, the first ones; None is all
    as_chat   whether texts are put as a chat; None leaves it to the task
    """

    tasks: tuple[Task, ...]
    limit: int | None = None
    as_chat: bool | None = None


def evaluate(
    entrants: Sequence[Entrant],
    settings: Settings,
    plan: EvaluationPlan,
    *,
    fresh: bool = False,
    tell: Tell = lambda what, done, total: None,
) -> list[EvaluationResult]:
    """Ask every model everything that is not known from before; what is interrupted goes on the next time.

    A model that cannot be opened, or whose process ends, has a reason in place of figures. ``tell`` hears the model
    and the task at work, and how many items are done, of all of the task.
    """
    return [_evaluate(entrant, settings, plan, fresh, tell) for entrant in entrants]


def _evaluate(entrant: Entrant, settings: Settings, plan: EvaluationPlan, fresh: bool, tell: Tell) -> EvaluationResult:
    told = _told(settings, entrant)
    key = key_of([entrant.digest, told, __version__])
    kept = KeptSteps(settings.home / FOLDER / f"{key}.jsonl", fresh=fresh)
    with closing(Examination(entrant, settings, kept, side_by_side=True)) as examination:

        def asker(prompts: Sequence[Prompt]) -> Iterator[tuple[int, Response]]:
            documents = [prompt_document(prompt) for prompt in prompts]
            for result in examination.ask({"do": "ask", "prompts": documents}):
                yield result["number"], response_of(result["response"])

        def tell_task(name: str, done: int, total: int) -> None:
            tell(f"{entrant.label}, {name}", done, total)

        results = tuple(
            run_task(asker, task, kept, limit=plan.limit, as_chat=plan.as_chat, tell=tell_task) for task in plan.tasks
        )
        facts = examination.facts or {}
        failed = examination.lost
    model = {
        "label": entrant.label,
        "model": entrant.contestant.reference,
        "engine": facts.get("engine", entrant.contestant.engine),
        "digest": entrant.digest,
        "size_bytes": entrant.size_bytes,
        "context_tokens": facts.get("context_tokens"),
        "settings": told,
    }
    return EvaluationResult(model, results, now(), __version__, failed)


def _told(settings: Settings, entrant: Entrant) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings_to_tell(settings, entrant, side_by_side=True).items()
        if name not in ("home", "threads")  # which change no answer
    }
