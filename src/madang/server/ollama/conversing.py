"""POST /api/chat and /api/generate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.chat import ContextPolicy
from madang.core.engine import Engine, TokenCounter
from madang.core.events import Done, Event, TextDelta
from madang.core.messages import Message
from madang.core.request import Request
from madang.models import Preset, StoredReference
from madang.runtime.abilities import as_engine
from madang.server.answering import grounded_events
from madang.server.bridge import events, in_thread, leased, while_connected
from madang.server.deriving import prepared
from madang.server.exchanges import Exchange, begin_exchange
from madang.server.fitting import fitted_to
from madang.server.grounding import Grounding, begin_grounding
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


@dataclass(slots=True)
class _Job:
    """One request on its way.

    load_s     seconds until its model was there
    warnings   of what had no effect
    """

    asked: Asked
    reference: StoredReference
    preset: Preset | None
    shape: Shape
    arrived_s: float
    exchange: Exchange | None = None
    grounding: Grounding | None = None
    load_s: float = 0.0
    warnings: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Of its session and documents."""
        if self.exchange is not None:
            return self.exchange.facts()
        return {} if self.grounding is None else self.grounding.facts()


async def _answer(http: HttpRequest, read: Callable[[Body], Asked], shape: Shape) -> Response:
    arrived_s = perf_counter()
    state = state_of(http)
    asked = read(await body_of(http))
    reference = find_reference(asked.model, state.store)
    preset = state.store.preset(reference)
    job = _Job(asked, reference, preset, shape, arrived_s, warnings=asked.warnings)
    if asked.request is None:
        return JSONResponse(await while_connected(http, _load_or_unload(state, job)))
    job.exchange = await begin_exchange(asked.wire, asked.request.messages, asked.model)
    request = _in_session(asked.request, job.exchange)
    job.grounding = await while_connected(http, begin_grounding(http, asked.wire, job.exchange, request))
    stream = _events(state, job, request)
    lines = _lines(job, stream if job.exchange is None else job.exchange.kept(stream))
    if asked.stream:
        return await streamed(http, lines)
    return JSONResponse(joined(await whole(http, lines), shape))


def _in_session(request: Request, exchange: Exchange | None) -> Request:
    """Behind what was said before."""
    if exchange is None:
        return request
    said = (message for message in request.messages if message.role != "system")
    return replace(request, messages=(*exchange.before, *said))


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


async def _events(state: ServerState, job: _Job, request: Request) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of an answer; its model is leased until the last."""
    if job.grounding is not None and job.grounding.is_refused:
        for event in job.grounding.refusal():
            yield 0, event
        return
    keep_alive_s, unkept = granted_keep_alive(job.asked.keep_alive_s)
    async with leased(state.pool, str(job.reference), keep_alive_s=keep_alive_s) as loaded:
        engine = as_engine(loaded)
        job.load_s = perf_counter() - job.arrived_s
        (request,) = await prepared(state.store, engine, job.preset, [request])
        request, warnings = within_context(request, engine.info)
        job.warnings += (*unkept, *warnings)
        async with aclosing(_generated(engine, job, request)) as stream:
            async for event in stream:
                yield 0, event


async def _generated(engine: Engine, job: _Job, request: Request) -> AsyncGenerator[Event, None]:
    policy: ContextPolicy = "strict" if job.exchange is None else job.exchange.policy
    memory = None if job.exchange is None else job.exchange.memory
    if job.asked.truncate and not isinstance(engine, TokenCounter):
        job.warnings += (f"'truncate' was ignored: the {engine.info.engine} engine does not count tokens.",)
    elif job.asked.truncate and request.prompt is None:
        policy = "drop_oldest"
    if job.grounding is not None:
        async with aclosing(grounded_events(engine, request, job.grounding, policy, memory)) as told:
            async for event in told:
                yield event
        return
    fitted = await fitted_to(engine, request, policy, memory)
    async with aclosing(events(engine, request if fitted is None else fitted.request)) as stream:
        async for event in stream:
            yield event if fitted is None else fitted.told(event)


async def _lines(job: _Job, stream: AsyncGenerator[tuple[int, Event], None]) -> AsyncGenerator[dict[str, Any], None]:
    """The lines of an answer."""
    assert job.asked.request is not None
    lines, said = Lines(job.asked.model, job.shape), ""
    async with aclosing(stream):
        async for _, event in stream:
            if not isinstance(event, Done):
                said += event.text if isinstance(event, TextDelta) else ""
                yield lines.delta(event)
                continue
            facts = job.facts()
            warnings = (*job.warnings, *facts.pop("warnings", ()))
            extras: dict[str, Any] = {"madang": facts | ledger_of(event, warnings)}
            if job.asked.keeps:
                extras["context"] = write_context((*job.asked.request.messages, Message("assistant", said)))
            yield lines.last(event, Clock(perf_counter() - job.arrived_s, job.load_s), extras)
