"""An application with echo behind it, and a server process's worth of it on a socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from madang.core import EngineInfo, Event, Loaded, Message, Request, TextDelta
from madang.core.errors import MadangError
from madang.core.settings import load_settings
from madang.engines.echo import EchoEngine
from madang.models import Store
from madang.server import monitoring
from madang.server.bridge import events, leased
from madang.server.failures import sentence_of, status_of
from madang.server.layers import Drain, enclose
from madang.server.serving import DrainingServer, PatientProtocol
from madang.server.state import ServerState


class Endless:
    """Talks until nobody listens; ``ended`` is set when its stream is closed."""

    def __init__(self) -> None:
        self.info = EngineInfo(engine="test", model="endless", context_tokens=10**9)
        self.ended = threading.Event()
        self.n_streams = 0

    def generate(self, request: Request) -> Iterator[Event]:
        self.n_streams += 1
        try:
            while True:
                yield TextDelta("x" * 1000)
        finally:
            self.ended.set()

    def close(self) -> None:
        pass


@dataclass
class Resident:
    reference: str
    info: EngineInfo
    size_bytes: int = 1000
    loaded_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    expires_at: datetime | None = None
    n_leases: int = 0
    reason: str = "It was asked for."


@dataclass
class FixedPool:
    """Engines by name."""

    engines: dict[str, Any] = field(default_factory=lambda: {"echo": EchoEngine(), "endless": Endless()})

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        yield self.engines[reference]

    def unload(self, reference: str) -> bool:
        return False

    def resident(self) -> list[Resident]:
        return [Resident(name, engine.info) for name, engine in self.engines.items()]

    def close(self) -> None:
        pass


class Streamed(StreamingResponse):
    """Closes what it streams, however it ends."""

    def __init__(self, first: str, rest: AsyncIterator[str]) -> None:
        self.rest = rest

        async def whole() -> AsyncIterator[str]:
            yield first
            async for piece in rest:
                yield piece

        super().__init__(whole())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.rest.aclose()  # type: ignore[attr-defined]


def tiny_app(home: Path, **state: Any) -> FastAPI:
    """``POST /say {"model", "text"}`` streams, ``POST /read`` tells the size of its body; under all layers."""

    async def say(http: HttpRequest) -> Response:
        wish = json.loads(await http.body())
        request = Request(messages=(Message("user", wish["text"]),))

        async def answer() -> AsyncIterator[str]:
            async with (
                leased(shared.pool, wish["model"]) as engine,
                aclosing(events(engine, request)) as stream,  # type: ignore[arg-type]
            ):
                async for event in stream:
                    if isinstance(event, TextDelta):
                        yield event.text

        pieces = answer()
        first = await anext(pieces)  # what is refused has a status of its own
        return Streamed(first, pieces)

    async def read(http: HttpRequest) -> Response:
        return JSONResponse({"bytes": len(await http.body())})

    async def fail(http: HttpRequest) -> Response:
        raise RuntimeError(f"something with {http.headers.get('authorization')}")

    async def failed(_: HttpRequest, error: Exception) -> Response:
        return JSONResponse({"error": sentence_of(error)}, status_code=status_of(error))

    shared = ServerState(
        **{
            "pool": FixedPool(),
            "store": Store(home),
            "settings": load_settings({}, {"MADANG_HOME": str(home)}),
            **state,
        }
    )
    app = FastAPI(exception_handlers={MadangError: failed})
    app.router.routes += [
        Route("/say", say, methods=["POST"]),
        Route("/read", read, methods=["POST"]),
        Route("/api/blobs/{digest}", read, methods=["POST"]),
        Route("/fail", fail, methods=["POST"]),
    ]
    app.state.server = shared
    drain, metrics = enclose(app, shared)
    monitoring.include(app, shared.pool, drain=drain, metrics=metrics)
    return app


@dataclass
class Running:
    """A server on a loopback port."""

    port: int
    server: DrainingServer
    thread: threading.Thread

    def connect(self) -> socket.socket:
        """A fresh connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self) -> None:
        """As the first signal does."""
        self.server.handle_exit(15, None)


@contextmanager
def served(app: FastAPI, *, protocol: type = PatientProtocol, drain_s: float = 10.0) -> Iterator[Running]:
    """The application behind a real socket; stopped at the end, if it still runs."""
    drain: Drain = app.state.drain
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(app, http=protocol, ws="none", log_config=None, lifespan="on")  # type: ignore[arg-type]
        server = DrainingServer(config, drain, drain_s=drain_s)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        yield Running(listener.getsockname()[1], server, thread)
        server.force_exit = server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_answer(connection: socket.socket) -> bytes:
    """Everything until the other end closes."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)
