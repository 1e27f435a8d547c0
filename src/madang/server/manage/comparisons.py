"""Comparisons: make one, look at it while it is made, and at all that were made here or with ``madang compare``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from madang.core.errors import InvalidRequest, ModelNotFound, NotFound
from madang.evaluation import ComparisonPlan, Contestant, built_in_text, parse_contestants
from madang.evaluation.results import KeptResult
from madang.models import FileReference, parse_reference, read_endpoint
from madang.server.bridge import in_thread
from madang.server.comparisons import ComparisonRun, Comparisons
from madang.server.manage.documents import comparisons as wire
from madang.server.manage.errors import failure_of
from madang.server.names import find_reference
from madang.server.scopes import MANAGES, is_visible, may_manage
from madang.server.state import ServerState
from madang.server.wire import State

router = APIRouter()


@router.get("/comparisons")
async def list_comparisons(http: HttpRequest) -> wire.Comparisons:
    """The one that is being made, and all that were made, the newest first; those of models that the caller may see."""
    comparisons = _comparisons(http)
    runs = [_run(run) for run in comparisons.runs() if _is_visible(run.models)]
    kept = {one.id: one for one in await in_thread(comparisons.results.list)}
    runs = [run for run in runs if run.id not in kept]  # of one that ended meanwhile, the result
    return wire.Comparisons(comparisons=runs + [_kept(one) for one in kept.values() if _is_visible(_models(one))])


@router.post("/comparisons", status_code=202, dependencies=[MANAGES])
async def start_comparison(wanted: wire.ComparisonRequest, state: State, http: HttpRequest) -> wire.Comparison:
    """Measure models of this machine side by side. It takes minutes, and goes on when the client leaves.

    The first is the reference. One is made at a time; what was measured before is not measured again.
    """
    contestants = [_contestant(one, state) for one in parse_contestants(wanted.models)]
    if len(set(contestants)) < len(contestants):
        raise InvalidRequest("A model is there more than once.", param="models")
    plan = ComparisonPlan(
        text=built_in_text() if wanted.text else None,
        prompts=tuple(wanted.prompts),
        answer_tokens=wanted.answer_tokens,
        n_runs=wanted.repetitions,
    )
    if plan.n_steps == 0:
        raise InvalidRequest("There is nothing to measure: no text, no prompts and no runs.", param="text")
    return _run(_comparisons(http).start(contestants, plan))


@router.get("/comparisons/{id}")
async def show_comparison(id: str, http: HttpRequest) -> wire.WholeComparison:
    """One comparison, with all its figures if it is over. Prompts and answers are for those who may manage."""
    comparisons = _comparisons(http)
    run = comparisons.find(id)
    shown = _run(run) if run is not None and _is_visible(run.models) else None
    if shown is not None and shown.state != "done":  # it may have ended since it was found
        return wire.WholeComparison(**shown.model_dump(), result=None)
    kept = await in_thread(partial(comparisons.results.get, id))
    if not _is_visible(_models(kept)):
        raise NotFound("comparison", id)
    return wire.WholeComparison(**_kept(kept).model_dump(), result=_shown(kept.document))


@router.delete("/comparisons/{id}", dependencies=[MANAGES])
async def remove_comparison(id: str, http: HttpRequest) -> wire.RemovedComparison:
    """End one that is being made, or forget the result of one. What was measured is kept for the next."""
    comparisons = _comparisons(http)
    run = comparisons.find(id)
    if run is not None and _is_visible(run.models):
        run.is_cancelled = True
        return wire.RemovedComparison(id=id)
    if not _is_visible(_models(await in_thread(partial(comparisons.results.get, id)))):
        raise NotFound("comparison", id)
    await in_thread(partial(comparisons.results.remove, id))
    return wire.RemovedComparison(id=id)


def _contestant(one: Contestant, state: ServerState) -> Contestant:
    reference = find_reference(one.reference, state.store)
    if state.store.find(reference) is None:
        raise state.store.lost(reference) or ModelNotFound(str(reference), hint="Pull it first.")
    return Contestant(str(reference), one.engine)


def _comparisons(http: HttpRequest) -> Comparisons:
    comparisons: Comparisons = http.app.state.comparisons
    return comparisons


def _is_visible(models: tuple[str, ...]) -> bool:
    """Whether the caller may know of all of them; of files and of what others run, as of all models."""
    return all(is_visible(parse_contestants([model])[0].reference) for model in models)


def _models(kept: KeptResult) -> tuple[str, ...]:
    return tuple(str(model.get("model")) for model in kept.document["models"])


def _run(run: ComparisonRun) -> wire.Comparison:
    return wire.Comparison(
        id=run.id,
        models=list(run.models),
        state=run.state,
        started_at=run.started_at,
        at_work=run.at_work,
        n_done=run.n_done,
        n_steps=run.n_steps,
        error=failure_of(run.error),
    )


def _kept(kept: KeptResult) -> wire.Comparison:
    n_steps = sum(kept.document["steps"].values())
    return wire.Comparison(
        id=kept.id,
        models=[str(model["label"]) for model in kept.document["models"]],
        state="done",
        started_at=kept.document["made_at"],
        at_work=None,
        n_done=n_steps,
        n_steps=n_steps,
        error=None,
    )


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without where files lie, and what was asked and said where that is not for the caller."""
    models = [{**model, "model": _name(model)} for model in document["models"]]
    if may_manage():
        return {**document, "models": models}
    measured = {**document["measured_on"], "prompts": []}
    return {**document, "models": [{**model, "answers": []} for model in models], "measured_on": measured}


def _name(model: Mapping[str, Any]) -> str:
    reference, label = str(model["model"]), str(model["label"])
    if read_endpoint(reference) is not None:
        return label
    return label if isinstance(parse_reference(reference), FileReference) else reference
