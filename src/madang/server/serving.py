"""The process that listens: uvicorn, with patience that ends and a stop that lets running requests finish."""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from madang.core.errors import Overloaded
from madang.server.bridge import end_all
from madang.server.event_stream import as_json
from madang.server.layers import Drain, stopping
from madang.server.limits import CONNECTIONS, DRAIN_S, HEADER_S
from madang.server.openai.errors import error_body

_log = logging.getLogger("madang.server")
TOLD_S = 2.0  # that streams which are cut off have to say so
CANCELLED_S = 5  # that requests have to notice that they were cancelled


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that gives up on a client that does not finish the headers of a request in :data:`HEADER_S` seconds, and
    sends away whoever comes while :data:`CONNECTIONS` are open.

    h11 rather than the quicker httptools: it bounds the size of headers.
    """

    header_s = HEADER_S
    most_connections = CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client has to say something."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.write(_full(self.most_connections))
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Time runs while headers are incomplete; bodies are timed by the application's layers."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._deadline is None:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody left to wait for."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(self.header_s, self._give_up)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()


def _full(most: int) -> bytes:
    """An answer to a request that is not read; in the words of OpenAI's API, for its path is not known."""
    body = as_json(error_body(Overloaded(f"{most} connections are open, which is the limit.", retry_after_s=1.0), 503))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class DrainingServer(uvicorn.Server):
    """On the first signal: refuse what is new with 503, wait up to ``drain_s`` for what runs, then end it
    with an error and stop.

    On the second one: stop at once.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, *, drain_s: float = DRAIN_S) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_s = drain_s
        self._draining: asyncio.Task[None] | None = None
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = CANCELLED_S
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; from here on, signals mean a drain."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal handler, between any two instructions: only leave word."""
        if self._drain.is_draining or self._loop is None:
            self.force_exit = True
            super().handle_exit(sig, frame)
            return
        self._drain.is_draining = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._draining = asyncio.ensure_future(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping", extra={"running": self._drain.n_running, "limit_s": self._drain_s})
        if not await self._drain.finished(self._drain_s):
            _log.warning("requests are cancelled", extra={"running": self._drain.n_running})
            end_all(stopping())
            await self._drain.finished(TOLD_S)
            self.config.timeout_graceful_shutdown = 0
        self.should_exit = True
