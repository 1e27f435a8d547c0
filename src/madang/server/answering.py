"""From a model's name and requests to events, for every API that streams answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from madang.chat import ContextPolicy
from madang.core.engine import Engine, TokenCounter
from madang.core.errors import InvalidRequest
from madang.core.events import Completion, Event, collect
from madang.core.request import Request
from madang.runtime.abilities import as_engine
from madang.server.bridge import events, in_thread, leased
from madang.server.deriving import meant, prepared
from madang.server.fitting import Memory, fitted_to, summarise_ahead
from madang.server.grounding import Grounding
from madang.server.state import ServerState

MAX_ANSWERS = 16  # that one request may ask for


async def answers(
    state: ServerState,
    model: str,
    requests: Sequence[Request],
    *,
    keep_alive_s: float | None = None,
    overflow: ContextPolicy | None = None,
    memory: Memory | None = None,
    grounding: Grounding | None = None,
) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of all requests as they come, each with the number of its request.

    A conversation that is too long is refused, or shortened if ``overflow`` says so, with summaries of ``memory``; one
    that is answered from documents is a single request.
    Raises what loading and generating raise. Leaving ends every generation.
    """
    if grounding is not None and grounding.is_refused:
        for event in grounding.refusal():
            yield 0, event
        return
    reference, preset = meant(state.store, model)
    async with leased(state.pool, reference, keep_alive_s=keep_alive_s) as loaded:
        engine = as_engine(loaded)
        requests = await prepared(state.store, engine, preset, requests)
        if grounding is not None:
            async with aclosing(grounded_events(engine, requests[0], grounding, overflow, memory)) as told:
                async for event in told:
                    yield 0, event
            return
        fitted = None if overflow is None else await fitted_to(engine, requests[0], overflow, memory)
        if fitted is not None:  # several answers are to one conversation
            requests = [replace(request, messages=fitted.request.messages) for request in requests]
        stream = _numbered(engine, 0, requests[0]) if len(requests) == 1 else _merged(engine, requests)
        async with aclosing(stream):
            async for number, event in stream:
                yield number, event if fitted is None else fitted.told(event)


async def grounded_events(
    engine: Engine, request: Request, grounding: Grounding, overflow: ContextPolicy | None, memory: Memory | None = None
) -> AsyncGenerator[Event, None]:
    """Events of one request that is answered from documents."""
    request = await grounding.fit(engine, request, overflow, memory)
    async with aclosing(events(engine, request)) as stream:
        async for event in stream:
            for told in grounding.told(event):
                yield told


async def prepare_summary(state: ServerState, model: str, request: Request, memory: Memory) -> None:
    """See :func:`~madang.server.fitting.summarise_ahead`; the request is the whole conversation so far."""
    reference, preset = meant(state.store, model)
    async with leased(state.pool, reference) as loaded:
        engine = as_engine(loaded)
        [request] = await prepared(state.store, engine, preset, [request])
        await summarise_ahead(engine, request, memory)


async def completions(
    state: ServerState,
    model: str,
    requests: Sequence[Request],
    *,
    keep_alive_s: float | None = None,
    overflow: ContextPolicy | None = None,
) -> list[Completion]:
    """The same as whole answers, one per request."""
    stream = answers(state, model, requests, keep_alive_s=keep_alive_s, overflow=overflow)
    return await collected(stream, len(requests))


async def collected(stream: AsyncGenerator[tuple[int, Event], None], n_answers: int) -> list[Completion]:
    """Whole answers, of a stream of so many."""
    arrived: list[list[Event]] = [[] for _ in range(n_answers)]
    async with aclosing(stream):
        async for number, event in stream:
            arrived[number].append(event)
    return [collect(own) for own in arrived]


async def counted_tokens(state: ServerState, model: str, request: Request) -> int:
    """How long the prompt is. Raises InvalidRequest when the engine cannot tell, and what loading raises."""
    reference, preset = meant(state.store, model)
    async with leased(state.pool, reference) as loaded:
        if not isinstance(loaded, TokenCounter):
            raise InvalidRequest(f"The {loaded.info.engine} engine does not count tokens.", param="model")
        return await in_thread(partial(loaded.count_tokens, request if preset is None else preset.apply(request)))


async def _numbered(engine: Engine, number: int, request: Request) -> AsyncGenerator[tuple[int, Event], None]:
    async with aclosing(events(engine, request)) as stream:
        async for event in stream:
            yield number, event


async def _merged(engine: Engine, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Event], None]:
    """Side by side, as far as the engine takes them; the first failure ends all."""
    streams = [_numbered(engine, number, request) for number, request in enumerate(requests)]
    waiting = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
    try:
        while waiting:
            arrived, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in arrived:
                stream = waiting.pop(task)
                try:
                    item = task.result()
                except StopAsyncIteration:
                    continue
                waiting[asyncio.ensure_future(anext(stream))] = stream
                yield item
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()
