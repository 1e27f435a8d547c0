"""The run of tasks on one model: what is known is not asked again, what is asked is kept at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from madang import __version__
from madang.core import Engine, Message
from madang.core.errors import InvalidRequest, MadangError
from madang.evaluation.asking import ask, prompt_document, response_document, response_of
from madang.evaluation.kept import KeptSteps, key_of
from madang.evaluation.outcomes import EvaluationResult, TaskResult
from madang.evaluation.tasks.task import Figure, Graded, Item, Prompt, Response, Task

Tell = Callable[[str, int, int], None]
# Some prompts at once -> numbers and responses as they come; fewer when the model is lost. Raises InvalidRequest.
Asker = Callable[[Sequence[Prompt]], Iterator[tuple[int, Response]]]

_BATCH: Final = 2048
_SCORING_THREADS: Final = 4


def run_tasks(
    engine: Engine,
    tasks: Sequence[Task],
    *,
    limit: int | None = None,
    keep: KeptSteps | None = None,
    progress: Tell = lambda what, done, total: None,
) -> EvaluationResult:
    """Put tasks to a model that is open already; :func:`evaluate` does it in processes of their own.

    ``limit`` is how many items of each task are asked, the first ones; None is all. Raises what the engine raises.
    """
    kept = KeptSteps(None) if keep is None else keep
    results = [run_task(lambda prompts: ask(engine, prompts), task, kept, limit=limit, tell=progress) for task in tasks]
    info = engine.info
    model = {"label": info.model, "model": info.model, "engine": info.engine, "context_tokens": info.context_tokens}
    return EvaluationResult(model, tuple(results), now(), __version__)


def now() -> str:
    """The time as documents have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def run_task(
    asker: Asker,
    task: Task,
    kept: KeptSteps,
    *,
    limit: int | None = None,
    as_chat: bool | None = None,
    tell: Tell = lambda what, done, total: None,
) -> TaskResult:
    """One task. ``as_chat`` puts texts to the model as a chat, or chats as texts; None leaves it to the task."""
    items = list(task.items())[:limit]
    prompts = [in_form(task.prompt(item), as_chat) for item in items]
    documents = [prompt_document(prompt) for prompt in prompts]
    digest = key_of([task.name, task.version, documents])
    blank = TaskResult(task.name, task.version, task.metric, task.higher_is_better, digest, shown(prompts[0]))
    keys = [key_of(document) for document in documents]
    problem = _ask_all(asker, task.name, list(zip(keys, prompts, strict=True)), kept, tell)
    found = [kept.find(key) for key in keys]
    if any(result is None for result in found):
        return replace(blank, problem=problem or "It could not be asked any further.")
    known = [result for result in found if result is not None]
    graded = _grade(task, items, [response_of(result) for result in known], kept)
    if not any(own.weight for own in graded):
        return replace(blank, problem=known[0]["problem"] or "There is nothing to measure in its items.")
    return replace(
        blank,
        figures=_figures(task, graded),
        items=[_item_document(task, own) for own in graded],
        tokens=sum(result["tokens"] for result in known),
        seconds=sum(result["s"] for result in known),
    )


def shown(prompt: Prompt) -> str:
    """A prompt for people: what the model reads, and what is scored after it."""
    request = prompt.request
    text = (
        request.prompt if request.prompt is not None else "".join(f"[{m.role}] {m.content}" for m in request.messages)
    )
    if prompt.is_rolling:
        return text + prompt.continuations[0]
    return "\n".join([text, *(f"  → {json.dumps(own, ensure_ascii=False)}" for own in prompt.continuations)])


def in_form(prompt: Prompt, as_chat: bool | None) -> Prompt:
    """A text as a chat, or a chat as a text; None leaves it as the task has it."""
    request = prompt.request
    if as_chat is True and request.prompt is not None and not prompt.is_rolling:
        message = Message("user", request.prompt)
        chat = prompt.chat or replace(request, prompt=None, messages=(message,), reasoning=False)
        return replace(prompt, request=chat)
    if as_chat is False and request.messages:
        return replace(prompt, request=replace(request, prompt=request.messages[-1].content, messages=()))
    return prompt


def _ask_all(asker: Asker, name: str, wanted: Sequence[tuple[str, Prompt]], kept: KeptSteps, tell: Tell) -> str | None:
    """Ask what is not known, and keep each response at once; why it ended early, if it did."""
    missing = list({key: prompt for key, prompt in wanted if kept.find(key) is None}.items())
    n_done = len(wanted) - len(missing)
    tell(name, n_done, len(wanted))
    for begin in range(0, len(missing), _BATCH):
        batch = missing[begin : begin + _BATCH]
        last_s = time.perf_counter()
        try:
            for number, response in asker([prompt for _, prompt in batch]):
                now_s = time.perf_counter()
                kept.keep(batch[number][0], {**response_document(response), "s": now_s - last_s})
                last_s = now_s
                n_done += 1
                tell(name, n_done, len(wanted))
        except InvalidRequest as error:  # the engine cannot do this kind of task
            return error.message
    return None


def _grade(task: Task, items: Sequence[Item], responses: Sequence[Response], kept: KeptSteps) -> list[Graded]:
    def score(item: Item, response: Response) -> float:
        if response.problem is not None:
            return 0.0
        if not task.is_costly:
            return task.score(item, response)
        key = key_of([task.name, task.version, item.id, response_document(response)])
        known = kept.find(key)
        if known is None:
            known = {"score": task.score(item, response)}
            kept.keep(key, known)
        return float(known["score"])

    with ThreadPoolExecutor(_SCORING_THREADS if task.is_costly else 1) as pool:
        scores = list(pool.map(score, items, responses))
    return [
        Graded(item, response, value, task.weight(item, response))
        for item, response, value in zip(items, responses, scores, strict=True)
    ]


def _figures(task: Task, graded: Sequence[Graded]) -> Mapping[str, Figure]:
    try:
        return {task.metric: task.figure(graded), **task.also(graded)}
    except OverflowError:  # a perplexity beyond what numbers hold
        raise MadangError(f"The figures of {task.name} are beyond what can be written.") from None


def _item_document(task: Task, own: Graded) -> dict[str, Any]:
    document: dict[str, Any] = {"id": own.item.id, "score": own.score, "weight": own.weight}
    if own.response.problem is not None:
        return {**document, "said": "", "problem": own.response.problem}
    return {**document, "said": task.said(own.item, own.response)}
