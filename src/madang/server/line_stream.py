"""Streams of lines, each a JSON object (NDJSON): the shape in which Ollama's API and our own stream."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.core.errors import MadangError
from madang.server.bridge import while_connected
from madang.server.event_stream import ClosingResponse

log = logging.getLogger("madang.server")

Lines = AsyncGenerator[dict[str, Any], None]

NDJSON = "application/x-ndjson"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


async def stream_lines(
    http: HttpRequest, lines: Lines, on_failure: Callable[[BaseException], dict[str, Any]]
) -> Response:
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
                yield _line(on_failure(error))

    return ClosingResponse(
        content(), media_type=NDJSON, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )


async def whole(http: HttpRequest, lines: Lines) -> list[dict[str, Any]]:
    """All lines, if the client waits for them. Raises what they raise, and ClientDisconnect."""

    async def gather() -> list[dict[str, Any]]:
        async with aclosing(lines):
            return [line async for line in lines]

    return await while_connected(http, gather())


def _line(record: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(record).encode("utf-8", "replace") + b"\n"
