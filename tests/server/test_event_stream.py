"""Streams that begin late, fail, or are left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from madang.core.errors import EngineError, ModelNotFound
from madang.server.event_stream import COMMENT, stream_events


class Pieces:
    """Two pieces; the first when ``begin`` is set. ``error`` comes in place of the one that it names."""

    def __init__(self, *, error: Exception | None = None, at: int = 0) -> None:
        self.begin = asyncio.Event()
        self.is_left = False
        self._error, self._at = error, at

    async def stream(self) -> AsyncGenerator[bytes, None]:
        try:
            await self.begin.wait()
            for i, piece in enumerate((b"one", b"two")):
                if self._error is not None and i == self._at:
                    raise self._error
                yield piece
        finally:
            self.is_left = True


def connection(*, is_gone: bool = False) -> HttpRequest:
    async def receive() -> Any:
        if not is_gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return HttpRequest({"type": "http"}, receive)


def failed(error: BaseException) -> bytes:
    return f"failed: {error}".encode()


async def shown(pieces: Pieces, *, late: bool) -> list[bytes]:
    """What a client reads; a late first piece comes after two comments."""
    if not late:
        pieces.begin.set()
    response = await stream_events(connection(), pieces.stream(), failed, patience_s=0.01 if late else 60)
    read: list[bytes] = []
    async for piece in response.body_iterator:
        assert isinstance(piece, bytes)
        read.append(piece)
        if read.count(COMMENT) >= 2:
            pieces.begin.set()
    assert pieces.is_left
    return read


def test_a_stream_begins_with_its_first_piece() -> None:
    async def run() -> list[bytes]:
        return await shown(Pieces(), late=False)

    assert asyncio.run(run()) == [b"one", b"two"]


def test_comments_keep_a_late_stream_open() -> None:
    async def run() -> list[bytes]:
        return await shown(Pieces(), late=True)

    *comments, one, two = asyncio.run(run())
    assert (one, two) == (b"one", b"two")
    assert len(comments) >= 2
    assert set(comments) == {COMMENT}


def test_what_fails_before_the_first_piece_raises() -> None:
    async def run() -> None:
        await shown(Pieces(error=ModelNotFound("x")), late=False)

    with pytest.raises(ModelNotFound):
        asyncio.run(run())


def test_what_fails_after_comments_is_told_in_the_stream() -> None:
    async def run() -> list[bytes]:
        return await shown(Pieces(error=EngineError("It broke.")), late=True)

    assert asyncio.run(run())[-1] == b"failed: It broke."


def test_what_fails_later_is_the_last_piece() -> None:
    async def run() -> list[bytes]:
        return await shown(Pieces(error=EngineError("It broke."), at=1), late=False)

    assert asyncio.run(run()) == [b"one", b"failed: It broke."]


def test_a_client_that_leaves_before_the_first_piece() -> None:
    async def run() -> bool:
        pieces = Pieces()
        with pytest.raises(ClientDisconnect):
            await stream_events(connection(is_gone=True), pieces.stream(), failed)
        return pieces.is_left

    assert asyncio.run(run())


@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_leaves_between_two_pieces(late: bool) -> None:
    async def run() -> bool:
        pieces = Pieces()
        if not late:
            pieces.begin.set()
        response = await stream_events(connection(), pieces.stream(), failed, patience_s=0.01 if late else 60)
        body: Any = response.body_iterator
        assert await anext(body) == (COMMENT if late else b"one")
        await body.aclose()
        return pieces.is_left

    assert asyncio.run(run())
