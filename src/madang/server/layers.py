"""The layers around the application, outermost first: visit and log, drain, guard, body."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from madang.core.errors import MadangError, Overloaded, RequestTimeout, RequestTooLarge
from madang.server.history import History
from madang.server.keys import KeyFile
from madang.server.learning import Learning
from madang.server.limits import BLOB_BYTES, Admission, BodyClock
from madang.server.metrics import GenerationEnd, Row, ServerMetrics
from madang.server.refusals import refuse
from madang.server.security import Guard, SecurityConfig
from madang.server.state import ModelPool, ServerState
from madang.server.visit import VISIT, Visit
from madang.storage import DATABASE_FILE, Database

if TYPE_CHECKING:
    from madang.server.tracing import Traces

UPLOADS = "/api/blobs/"
REQUEST_ID = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
DRAIN_RETRY_S = 5.0
ACCESS = logging.getLogger("madang.access")
FAULTS = logging.getLogger("madang.server")
STATUS_OF_FAULT = 500


def enclose(app: FastAPI, state: ServerState) -> tuple[Drain, ServerMetrics]:
    """Put every layer around an application."""
    admission, drain = Admission(state.waiting), Drain()
    history = History(Database(state.settings.home / DATABASE_FILE, write_patience_s=state.database_s))
    learning = Learning(state.settings, history.background)
    metrics = ServerMetrics(
        lambda: _now(admission, state.pool, history), ended=partial(_ended, history, learning, state.traces)
    )
    app.state.history = history
    visits: dict[int, Visit] = {}
    app.state.visits = visits
    security = SecurityConfig(KeyFile(state.settings.home)) if state.security is None else state.security
    # The last one added is the outermost.
    app.add_middleware(BodyLayer, state=state)
    app.add_middleware(Guard, config=security)
    app.add_middleware(DrainLayer, drain=drain)
    app.add_middleware(
        VisitLayer, metrics=metrics, admission=admission, history=history, visits=visits, traces=state.traces
    )
    return drain, metrics


def _now(admission: Admission, pool: ModelPool, history: History) -> dict[str, list[Row]]:
    resident = pool.resident()
    return {
        "num_requests_running": [((), admission.n_running)],
        "num_requests_waiting": [((), admission.n_waiting)],
        "history_available": [((), history.trouble is None)],
        "history_entries_waiting": [((), history.journal.n_waiting)],
        "history_entries_lost": [((), history.journal.n_lost)],
        "resident_model_bytes": [((one.reference, one.info.engine), one.size_bytes) for one in resident],
        "resident_model_leases": [((one.reference, one.info.engine), one.n_leases) for one in resident],
    }


def _ended(history: History, learning: Learning, traces: Traces | None, end: GenerationEnd) -> None:
    history.keep_run(end)
    learning.ended(end)
    visit = VISIT.get()
    if traces is not None and visit is not None and visit.span is not None:
        traces.generated(visit.span, end)


class VisitLayer:
    """Gives each request its number and its :class:`Visit`; afterwards counts it and writes one line of the log.

    The line has the path without its query: clients put secrets there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: ServerMetrics,
        admission: Admission,
        history: History,
        visits: dict[int, Visit],
        traces: Traces | None = None,
    ) -> None:
        """``visits`` are those of all requests that run, kept up to date here."""
        self._app = app
        self._visits = visits
        self._traces = traces
        self._metrics = metrics
        self._admission = admission
        self._history = history

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; an exception that reaches this layer is logged and, if it still can be, answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(
            request_id=_request_id(scope),
            metrics=self._metrics,
            admission=self._admission,
            history=self._history,
            path=scope["path"],
        )
        if self._traces is not None:
            visit.span = self._traces.begin(scope["method"], Headers(scope=scope))
        token = VISIT.set(visit)
        self._visits[id(visit)] = visit
        answer = _Answer(send, visit.request_id)
        began_s = time.perf_counter()
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            answer.outcome = "cancelled"
            raise
        except ClientDisconnect:
            answer.outcome = "left"
        except Exception as error:
            answer.outcome = "fault"
            FAULTS.exception("a request failed", extra={"request_id": visit.request_id})
            if answer.status is None:
                await refuse(scope, receive, answer.send, error)
        finally:
            VISIT.reset(token)
            del self._visits[id(visit)]
            duration_s = time.perf_counter() - began_s
            status = STATUS_OF_FAULT if answer.status is None else answer.status
            self._metrics.answered(_route(scope), scope["method"], status)
            if self._traces is not None and visit.span is not None:
                self._traces.end(visit.span, scope["method"], _route(scope), _facts(visit, status))
            ACCESS.info(
                "request",
                extra={
                    "request_id": visit.request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "outcome": answer.outcome,
                    "duration_ms": round(duration_s * 1e3, 3),
                    "key": visit.key_name,
                    "model": visit.model,
                },
            )


def _facts(visit: Visit, status: int) -> dict[str, object]:
    """Of a request, as its span has them."""
    return {
        "http.response.status_code": status,
        "madang.request_id": visit.request_id,
        "madang.key": visit.key_name or None,
        "gen_ai.request.model": visit.model,
    }


class _Answer:
    """What becomes of an answer on its way out."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None
        self.outcome = "answered"

    async def send(self, message: Message) -> None:
        """Put the request's number into the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.setdefault(REQUEST_ID, self._request_id)
            headers.setdefault("X-Content-Type-Options", "nosniff")
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The client's own number, if it is harmless in a log."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _route(scope: Scope) -> str:
    """The path with the names of its parameters in place of their values, which are without number.

    What FastAPI keeps of a route is without the prefix of its router in some versions.
    """
    if "endpoint" not in scope:
        return "other"
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        before, found, after = path.rpartition(str(value))
        path = f"{before}{{{name}}}{after}" if found else path
    return path


@dataclass(slots=True)
class Drain:
    """Whether the server is stopping, and what still runs."""

    is_draining: bool = False
    n_running: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """One more request runs."""
        self.n_running += 1
        self._idle.clear()

    def leave(self) -> None:
        """One fewer."""
        self.n_running -= 1
        if self.n_running == 0:
            self._idle.set()

    async def finished(self, limit_s: float) -> bool:
        """Take nothing new, and wait for what runs; whether it came to its end in time."""
        self.is_draining = True
        if self.n_running == 0:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        return self.n_running == 0


def stopping() -> Overloaded:
    """What is refused, and what is cut off, while the server stops."""
    return Overloaded("The server is stopping.", retry_after_s=DRAIN_RETRY_S)


class DrainLayer:
    """Refuses new requests while the server stops, but for the question whether it is alive."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run it, or answer 503."""
        if scope["type"] != "http" or scope["path"] in ("/health", "/ready"):
            await self._app(scope, receive, send)
            return
        if self._drain.is_draining:
            await refuse(scope, receive, send, stopping())
            return
        self._drain.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            self._drain.leave()


class BodyLayer:
    """Bounds what is read of a request, bytes as they come and seconds as they pass, and how long nobody reads its
    answer: who does not would keep an engine's place for ever."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A body that breaks a bound is answered with 413 or 408, whatever the application makes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].startswith(UPLOADS)
        limit_bytes = BLOB_BYTES if is_upload else self._state.body_bytes
        headers = Headers(scope=scope)
        promised = headers.get("content-length", "")
        if promised.isdecimal() and len(promised) < 20 and int(promised) > limit_bytes:
            await refuse(scope, receive, send, RequestTooLarge(limit_bytes))
            return
        clock = BodyClock(limit_bytes, None if is_upload else self._state.body_s, idle_s=self._state.body_idle_s)
        body = _Body(receive, send, clock, self._state.stall_s)
        body.is_complete = not promised and "transfer-encoding" not in headers
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if body.failure is None:
                raise
        finally:
            body.watch.end()
        if body.failure is not None and not body.has_begun:
            await refuse(scope, receive, send, body.failure)


class _Body:
    """A body under its bounds, and the answer, which is held back once one of them is broken."""

    def __init__(self, receive: Receive, send: Send, clock: BodyClock, stall_s: float) -> None:
        self._receive, self._send, self._clock = receive, send, clock
        self.watch = _StallWatch(stall_s)
        self.is_complete = False
        self.has_begun = False
        self.failure: MadangError | None = None

    async def receive(self) -> Message:
        """The next piece. What waits after the body is the client's end of the line, which has all the time."""
        if self.is_complete:
            return await self._receive()
        try:
            try:
                # Not wait_for, whose task of its own would take a piece along when the one who waits is cancelled.
                async with asyncio.timeout(self._clock.patience_s()):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout(self._clock.idle_s) from None
            self._clock.count(len(message.get("body", b"")))
        except MadangError as error:
            self.failure = error
            raise
        self.is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass it on, unless a bound was broken before the answer began. Raises ClientDisconnect for one who stalls."""
        if self.failure is not None and not self.has_begun:
            return
        self.has_begun = True
        await self.watch.send(self._send, message)


class _StallWatch:
    """Ends the sending of a message when nobody takes it for ``limit_s``.

    One timer for an answer: to start one for each of its pieces would cost as much as sending them does.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._sender: asyncio.Task[object] | None = None
        self._since_s = 0.0
        self._is_stalled = False
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, send: Send, message: Message) -> None:
        """Raises ClientDisconnect."""
        self._sender, self._since_s = asyncio.current_task(), self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since_s + self._limit_s, self._look)
        try:
            await send(message)
        except asyncio.CancelledError:
            if self._is_stalled and self._sender is not None and self._sender.uncancel() == 0:
                raise ClientDisconnect from None
            raise
        finally:
            self._sender = None

    def end(self) -> None:
        """The answer is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        due_s = (self._loop.time() if self._sender is None else self._since_s) + self._limit_s
        if self._sender is None or due_s > self._loop.time():
            self._timer = self._loop.call_at(due_s, self._look)
        else:
            self._is_stalled = True
            self._sender.cancel()
