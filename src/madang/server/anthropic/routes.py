"""The routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.core.errors import MadangError
from madang.core.request import Request
from madang.server.answering import answers, completions, counted_tokens
from madang.server.anthropic.answers import MessageStream, whole_message
from madang.server.anthropic.errors import error_event
from madang.server.anthropic.messages import CountRequest, MessagesRequest
from madang.server.bridge import while_connected
from madang.server.event_stream import json_response, stream_events
from madang.server.state import ServerState
from madang.server.wire import State

router = APIRouter(tags=["Anthropic"])


def include(app: FastAPI) -> None:
    """Add the routes under ``/v1``, where clients of this API look for them."""
    app.include_router(router, prefix="/v1")


@router.post("/messages")
async def messages(http: HttpRequest, body: MessagesRequest, state: State) -> Response:
    """Answer a conversation."""
    warnings, request = body.warnings(), body.core_request()
    if body.stream:
        shape = MessageStream(body.model, warnings, one_call=body.takes_one_call)
        return await stream_events(http, _events(state, body, request, shape), error_event)
    [completion] = await while_connected(
        http, completions(state, body.model, [request], overflow=body.context_overflow)
    )
    return json_response(whole_message(body.model, completion, warnings, one_call=body.takes_one_call))


@router.post("/messages/count_tokens")
async def count_tokens(http: HttpRequest, body: CountRequest, state: State) -> Response:
    """How long a prompt is."""
    warnings = body.ignored()
    n_tokens = await while_connected(http, counted_tokens(state, body.model, body.core_request()))
    return json_response({"input_tokens": n_tokens, **({"madang": {"warnings": warnings}} if warnings else {})})


async def _events(
    state: ServerState, body: MessagesRequest, request: Request, shape: MessageStream
) -> AsyncGenerator[bytes, None]:
    # Beside the answer, which it does not hold up: the first token takes longer.
    counting = asyncio.ensure_future(_prompt_tokens(state, body.model, request))
    try:
        async with aclosing(answers(state, body.model, [request], overflow=body.context_overflow)) as stream:
            async for _, event in stream:
                if not shape.has_begun:
                    shape.prompt_tokens = await counting
                yield shape.push(event)
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)


async def _prompt_tokens(state: ServerState, model: str, request: Request) -> int:
    """0 when the engine cannot tell; what else is wrong, the answer says."""
    try:
        return await counted_tokens(state, model, request)
    except MadangError:
        return 0
