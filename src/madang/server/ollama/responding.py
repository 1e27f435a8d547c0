"""What every route of the Ollama API shares: its body, its errors, its streams of lines."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import wraps
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.core.errors import ContextLengthExceeded, MadangError, ModelNotFound
from madang.server.bridge import while_connected
from madang.server.event_stream import ClosingResponse
from madang.server.failures import sentence_of, status_of
from madang.server.ollama.body import Body, parse_body
from madang.server.state import ServerState

log = logging.getLogger("madang.server")

Handler = Callable[[HttpRequest], Awaitable[Response]]
Lines = AsyncGenerator[dict[str, Any], None]

NDJSON = "application/x-ndjson"


def state_of(http: HttpRequest) -> ServerState:
    """What all routes share."""
    state: ServerState = http.app.state.server
    return state


async def body_of(http: HttpRequest) -> Body:
    """The JSON of a request, whatever its content type says: curl sends it as a form. Raises InvalidRequest."""
    return parse_body(await http.body())


def failure(error: BaseException) -> dict[str, Any]:
    """An error as these clients read it; the numbers of a context that is too small go along."""
    if isinstance(error, ModelNotFound):
        return {"error": f"model '{error.name}' not found. {error.hint or ''}".rstrip(), "code": error.code}
    record: dict[str, Any] = {"error": sentence_of(error)}
    if isinstance(error, MadangError):
        record["code"] = error.code
    if isinstance(error, ContextLengthExceeded):
        record |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return record


def responding(handler: Handler) -> Handler:
    """The handler, with everything that it raises answered in this API's shape."""

    @wraps(handler)
    async def respond(http: HttpRequest) -> Response:
        try:
            return await handler(http)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            if not isinstance(error, MadangError):
                log.exception("A request failed.")
            return JSONResponse(failure(error), status_of(error))

    return respond


async def stream_lines(http: HttpRequest, lines: Lines) -> Response:
    """A response of one JSON object per line; it begins when the first is there, so what is refused has its own status.

    What fails later is told in a line, which is the last. Raises what the first line raises, and ClientDisconnect.
    """
    try:
        first = await while_connected(http, anext(lines))
    except BaseException:
        await lines.aclose()
        raise

    async def content() -> AsyncGenerator[bytes, None]:
        async with aclosing(lines):
            try:
                yield _line(first)
                async for line in lines:
                    yield _line(line)
            except Exception as error:
                if not isinstance(error, MadangError):
                    log.exception("A stream failed.")
                yield _line(failure(error))

    return ClosingResponse(content(), media_type=NDJSON, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def whole(http: HttpRequest, lines: Lines) -> list[dict[str, Any]]:
    """All lines, if the client waits for them. Raises what they raise, and ClientDisconnect."""

    async def gather() -> list[dict[str, Any]]:
        async with aclosing(lines):
            return [line async for line in lines]

    return await while_connected(http, gather())


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
