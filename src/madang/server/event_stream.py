"""Answers on the wire: JSON, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from secrets import token_hex
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from madang.core.errors import MadangError
from madang.server.bridge import undisturbed, while_connected

log = logging.getLogger("madang.server")

DONE = b"data: [DONE]\n\n"
COMMENT = b": not yet\n\n"
PATIENCE_S = 10.0  # without a byte; proxies and clients give up after 30 s and more


def data(value: Mapping[str, Any]) -> bytes:
    """One event without a name."""
    return b"data: " + as_json(value) + b"\n\n"


def named(name: str, value: Mapping[str, Any]) -> bytes:
    """One event with a name."""
    return b"event: " + name.encode() + b"\n" + data(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def as_json(value: object) -> bytes:
    """Without blanks, and without NaN, which is no JSON."""
    return _ENCODER.encode(value).encode()


class Stencil:
    """A piece of a stream that comes again and again, each time with another text in it."""

    def __init__(self, written: Callable[[str], bytes]) -> None:
        """``written``: the piece with a given text, which it has once, as JSON."""
        mark = token_hex(16)
        self._head, self._tail = written(mark).split(as_json(mark))

    def with_text(self, text: str) -> bytes:
        """The piece with this text."""
        return self._head + as_json(text) + self._tail


def json_response(value: Mapping[str, Any]) -> Response:
    """A whole answer, as it is: what was built here needs no check."""
    return Response(as_json(value), media_type="application/json")


async def stream_events(
    http: HttpRequest,
    pieces: AsyncGenerator[bytes, None],
    on_failure: Callable[[BaseException], bytes],
    *,
    patience_s: float = PATIENCE_S,
) -> StreamingResponse:
    """A response that streams ``pieces``; it begins when the first is there, so what is refused has its own status.

    When that takes longer than ``patience_s``, as a load or a long prompt may, it begins with comments, which keep the
    connection open. What fails later is told in the stream, which ends there. Raises what the first piece raises, and
    ClientDisconnect.
    """
    first = asyncio.ensure_future(anext(pieces))

    async def leave() -> None:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await pieces.aclose()

    try:
        await while_connected(http, asyncio.wait({first}, timeout=patience_s))
        if first.done():
            first.result()
    except BaseException:
        await undisturbed(leave())
        raise

    async def all_pieces() -> AsyncGenerator[bytes, None]:
        try:
            while not first.done():
                yield COMMENT
                await asyncio.wait({first}, timeout=patience_s)
            yield first.result()
            async for piece in pieces:
                yield piece
        except Exception as error:
            if not isinstance(error, MadangError):
                log.exception("A stream failed.")
            yield on_failure(error)
        finally:
            await undisturbed(leave())

    return ClosingResponse(all_pieces(), media_type="text/event-stream", headers=_HEADERS)


# Proxies that collect an answer before they pass it on are asked not to.
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ClosingResponse(StreamingResponse):
    """Leaves its generator at once when the client goes away between two pieces."""

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse."""
        try:
            await super().stream_response(send)
        finally:
            close = getattr(self.body_iterator, "aclose", None)
            if close is not None:
                await close()
