"""Work that goes on for a while, told as it changes until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.server.event_stream import data, stream_events
from madang.server.line_stream import stream_lines
from madang.server.manage.errors import error_body

POLL_S: Final = 0.1
_EVENTS: Final = "text/event-stream"

# What the OpenAPI document says of such a route.
FOLLOWED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {"application/x-ndjson": {}, _EVENTS: {}},
        "description": "The state at each change: a line of JSON, or an event for who accepts text/event-stream.",
    }
}


async def follow(http: HttpRequest, state: Callable[[], BaseModel], is_over: Callable[[], bool]) -> Response:
    """The state, now and at each change, until it is over; as lines, or as events for a client that accepts these."""
    await http.body()  # there is none, but what is left of a request is taken for a part of it that is still to come
    states = _changes(state, is_over)
    if _EVENTS in http.headers.get("accept", ""):
        return await stream_events(http, _events(states), lambda error: data(error_body(error)))
    return await stream_lines(http, states, error_body)


async def _changes(state: Callable[[], BaseModel], is_over: Callable[[], bool]) -> AsyncGenerator[dict[str, Any], None]:
    told = None
    while True:
        ends = is_over()  # before the state is read, or the last change could be missed
        now = state().model_dump(mode="json")
        if now != told:
            told = now
            yield now
        if ends:
            return
        await asyncio.sleep(POLL_S)


async def _events(states: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    async for state in states:
        yield data(state)
