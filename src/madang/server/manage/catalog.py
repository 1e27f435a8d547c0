"""Models that can be pulled by name: all of them, and those that serve a wish, each as it would be on this machine."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request as HttpRequest

from madang.hardware.probe import ram_bytes
from madang.models import CatalogEntry, Store, load_catalog
from madang.runtime.outlook import Outlook
from madang.runtime.recommending import RULE, Recommendation, Wish, find_language, find_task, with_license
from madang.server.bridge import in_thread
from madang.server.manage.documents import catalog as wire
from madang.server.manage.documents.base import Sentence
from madang.server.wire import State

router = APIRouter()

Word = Annotated[str, Query(max_length=100)]


@router.get("/catalog")
async def list_catalog(state: State, http: HttpRequest) -> wire.Catalog:
    """Every model that can be pulled by name, with what it would take here and how fast it would be."""
    return await in_thread(partial(_catalog, state.store, http.app.state.outlook))


@router.get("/recommendations")
async def recommend_models(
    http: HttpRequest,
    *,
    task: Word = "general",
    memory_bytes: Annotated[int | None, Query(ge=1, le=1 << 50)] = None,
    license: Word = "any",
    language: Annotated[str | None, Query(max_length=100)] = None,
    speed_tokens_s: Annotated[float | None, Query(ge=0, le=1e6)] = None,
    context_tokens: Annotated[int | None, Query(ge=1, le=1 << 24)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> wire.Recommendations:
    """Models of the catalog that do what is wanted on this machine, the best first, each in its best type.

    ``task``, ``license`` and ``language`` are words as ``madang models recommend`` knows them, English or Korean.
    Without ``memory_bytes`` it is what is free now.
    """
    known = {entry.license.name for entry in load_catalog().entries.values() if entry.license is not None}
    wish = Wish(
        task=find_task(task),
        memory_bytes=ram_bytes()[1] if memory_bytes is None else memory_bytes,
        language=None if language is None else find_language(language),
        tokens_per_s=speed_tokens_s,
        context_tokens=context_tokens,
    )
    wish = with_license(wish, license, known)
    return await in_thread(partial(_recommended, http.app.state.server.store, http.app.state.outlook, wish, limit))


def _catalog(store: Store, outlook: Outlook) -> wire.Catalog:
    rows = [_row(store, outlook, entry) for entry in load_catalog().entries.values()]
    speed_is = outlook.speed_is
    return wire.Catalog(models=rows, speed_is=speed_is, speed_told=Sentence.of(speed_is))


def _row(store: Store, outlook: Outlook, entry: CatalogEntry) -> wire.CatalogModel:
    forecast = asdict(outlook.forecast(entry))
    return wire.CatalogModel(
        name=str(entry.reference),
        source=str(entry.source),
        task=entry.task,
        tasks=list(entry.tasks),
        parameters=entry.parameters,
        context_tokens=entry.context_tokens,
        license=None if entry.license is None else entry.license.name,
        commercial=None if entry.license is None else entry.license.commercial,
        languages=list(entry.languages),
        size_bytes=entry.size_bytes,
        is_here=store.find(entry.reference) is not None,
        family=entry.family,
        year=entry.year,
        note=entry.note,
        types=list(entry.types),
        forecast=wire.Forecast(type=forecast.pop("type_name"), **forecast),
    )


def _recommended(store: Store, outlook: Outlook, wish: Wish, limit: int) -> wire.Recommendations:
    answer, speed_is = outlook.recommend(wish), outlook.speed_is
    return wire.Recommendations(
        task=wish.task,
        memory_bytes=wish.memory_bytes or 0,
        models=[_recommendation(store, one) for one in answer.found[:limit]],
        left_out=dict(answer.left_out),
        rule=RULE,
        speed_is=speed_is,
        speed_told=Sentence.of(speed_is),
    )


def _recommendation(store: Store, one: Recommendation) -> wire.Recommendation:
    license = one.entry.license
    return wire.Recommendation(
        name=str(one.entry.reference),
        pull=one.pull,
        steps=list(one.steps),
        type=one.type_name,
        made_here=one.made_here,
        engine=one.engine,
        memory_bytes=one.memory_bytes,
        is_exact=one.is_exact,
        context_tokens=one.context_tokens,
        most_context_tokens=one.most_tokens,
        tokens_per_s=one.tokens_per_s,
        license=None if license is None else license.name,
        commercial=None if license is None else license.commercial,
        score=one.score,
        reasons=list(one.reasons),
        told=[Sentence.of(reason) for reason in one.reasons],
        is_here=store.find(one.entry.reference) is not None,
    )
