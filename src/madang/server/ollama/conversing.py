"""POST /api/chat and /api/generate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.core.engine import TokenCounter
from madang.core.events import Done, TextDelta
from madang.core.messages import Message
from madang.models import Preset, StoredReference
from madang.runtime.abilities import as_engine
from madang.server.bridge import events, in_thread, leased, while_connected
from madang.server.deriving import prepared
from madang.server.fitting import fitted_to
from madang.server.ledger import ledger_of
from madang.server.line_stream import whole
from madang.server.names import find_reference
from madang.server.ollama.answering import ChatShape, Clock, GenerateShape, Line, Lines, Shape, joined
from madang.server.ollama.asking import CHAT, GENERATE, Asked, read_chat, read_generate, within_context
from madang.server.ollama.body import Body
from madang.server.ollama.history import write_context
from madang.server.ollama.responding import body_of, state_of, streamed
from madang.server.scopes import check_manager, granted_keep_alive
from madang.server.state import ServerState

router = APIRouter(tags=["ollama"])


@router.post("/api/chat", openapi_extra=CHAT.described("model"))
async def chat(http: HttpRequest) -> Response:
    """Answer a conversation, as NDJSON unless ``stream`` is false."""
    return await _answer(http, read_chat, ChatShape())


@router.post("/api/generate", openapi_extra=GENERATE.described("model"))
async def generate(http: HttpRequest) -> Response:
    """Answer a prompt; without one, load or unload the model."""
    return await _answer(http, read_generate, GenerateShape())


@dataclass(frozen=True, slots=True)
class _Job:
    """One request on its way."""

    asked: Asked
    reference: StoredReference
    preset: Preset | None
    shape: Shape
    arrived_s: float


async def _answer(http: HttpRequest, read: Callable[[Body], Asked], shape: Shape) -> Response:
    arrived_s = perf_counter()
    state = state_of(http)
    asked = read(await body_of(http))
    reference = find_reference(asked.model, state.store)
    preset = state.store.preset(reference)
    job = _Job(asked, reference, preset, shape, arrived_s)
    if asked.request is None:
        return JSONResponse(await while_connected(http, _load_or_unload(state, job)))
    if asked.stream:
        return await streamed(http, _lines(state, job))
    return JSONResponse(joined(await whole(http, _lines(state, job)), shape))


async def _load_or_unload(state: ServerState, job: _Job) -> Line:
    """Always one object, even where a stream was asked for."""
    lines, keep_alive_s = Lines(job.asked.model, job.shape), job.asked.keep_alive_s
    if keep_alive_s == 0:
        await check_manager()
        await in_thread(partial(state.pool.unload, str(job.reference)))
        return lines.bare("unload")
    keep_alive_s, _ = granted_keep_alive(keep_alive_s)
    async with leased(state.pool, str(job.reference), keep_alive_s=keep_alive_s):
        return lines.bare("load")


async def _lines(state: ServerState, job: _Job) -> AsyncGenerator[dict[str, Any], None]:
    """The lines of an answer; its model is leased until the last."""
    assert job.asked.request is not None
    lines, said = Lines(job.asked.model, job.shape), ""
    keep_alive_s, unkept = granted_keep_alive(job.asked.keep_alive_s)
    async with leased(state.pool, str(job.reference), keep_alive_s=keep_alive_s) as loaded:
        engine = as_engine(loaded)
        load_s = perf_counter() - job.arrived_s
        (request,) = await prepared(state.store, engine, job.preset, [job.asked.request])
        request, warnings = within_context(request, engine.info)
        warnings = (*job.asked.warnings, *unkept, *warnings)
        fitted = None
        if job.asked.truncate and not isinstance(engine, TokenCounter):
            warnings += (f"'truncate' was ignored: the {engine.info.engine} engine does not count tokens.",)
        elif job.asked.truncate and request.prompt is None:
            fitted = await fitted_to(engine, request, "drop_oldest")
        async with aclosing(events(engine, request if fitted is None else fitted.request)) as stream:
            async for event in stream:
                if not isinstance(event, Done):
                    said += event.text if isinstance(event, TextDelta) else ""
                    yield lines.delta(event)
                    continue
                done = event if fitted is None else fitted.ended(event)
                extras: dict[str, Any] = {"madang": ledger_of(done, warnings)}
                if job.asked.keeps:
                    extras["context"] = write_context((*job.asked.request.messages, Message("assistant", said)))
                yield lines.last(event, Clock(perf_counter() - job.arrived_s, load_s), extras)
