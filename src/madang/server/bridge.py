"""From the synchronous stream of an engine to an asynchronous one, and back when the client is gone."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from anyio import CancelScope
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from madang.core.engine import Cancellable, Engine, Loaded, streaming
from madang.core.events import Event
from madang.core.request import Request
from madang.server.limits import Admission
from madang.server.metrics import Generation
from madang.server.scopes import check_model
from madang.server.state import ModelPool
from madang.server.visit import VISIT

T = TypeVar("T")

QUEUE_EVENTS = 64  # that a slow client lets pile up before its generation waits

_outside_of_requests = Admission()


async def events(engine: Engine, request: Request) -> AsyncGenerator[Event, None]:
    """The stream of a request, which waits until the engine has a place for it.

    Leaving the iterator, by ``aclose`` or by cancellation, ends the generation within one step. Raises what the engine
    raises, and Overloaded when too many wait already.
    """
    async with _counted(engine) as seen:
        generation = _Generation(engine, request)
        generation.start()
        try:
            while True:
                batch, failure = await generation.take()
                for event in batch:
                    if seen is not None:
                        seen.saw(event)
                    yield event
                if failure is not None:
                    raise failure
                if generation.is_over:
                    return
        finally:
            generation.leave()
            await undisturbed(generation.ended.wait())


@asynccontextmanager
async def leased(pool: ModelPool, reference: str, *, keep_alive_s: float | None = None) -> AsyncIterator[Loaded]:
    """A lease of the pool; loading and unloading do not hold up other requests.

    Raises what loading raises, and what :func:`~madang.server.scopes.check_model` does. A client that leaves while
    its model loads leaves the load running, for the next one.
    """
    check_model(reference)
    lease = pool.lease(reference, keep_alive_s=keep_alive_s)
    entering = asyncio.ensure_future(in_thread(lease.__enter__))
    try:
        loaded = await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(lambda done: _give_back(lease, done))
        raise
    try:
        yield loaded
    finally:
        await undisturbed(in_thread(partial(lease.__exit__, None, None, None)))


@asynccontextmanager
async def placed(loaded: Loaded) -> AsyncIterator[None]:
    """A place among those that the engine runs at once, for work that is no stream. Raises Overloaded."""
    visit = VISIT.get()
    async with (_outside_of_requests if visit is None else visit.admission).place(loaded):
        yield


async def while_connected(http: HttpRequest, work: Awaitable[T]) -> T:
    """What ``work`` gives. When the client goes away first, work is cancelled; raises ClientDisconnect."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(watching, working, return_exceptions=True)


async def in_thread(function: Callable[[], T]) -> T:
    """What it returns, from a thread of its own: the loop's own threads are few, and a load holds one for seconds."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result, error = function(), None
        except BaseException as failure:
            result, error = None, failure
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="madang-call", daemon=True).start()
    return await outcome


class _Generation:
    """A thread that runs the engine's stream, and the loop's end of it."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[Event] = deque()
        self._failure: BaseException | None = None
        self._news = asyncio.Event()
        self._room = threading.Semaphore(QUEUE_EVENTS)
        self._is_left = False
        self._stream: Cancellable | None = None
        self.is_over = False
        self.ended = asyncio.Event()

    def start(self) -> None:
        """Begin, in a thread of its own: a pool of threads would be a second queue."""
        threading.Thread(target=self._run, name="madang-generation", daemon=True).start()

    async def take(self) -> tuple[list[Event], BaseException | None]:
        """What has come since the last call, waiting for something; and what ended the stream, if that failed."""
        await self._news.wait()
        self._news.clear()  # before looking, so that nothing is overlooked
        is_over = self.ended.is_set()
        batch = [self._arrived.popleft() for _ in range(len(self._arrived))]
        if batch:
            self._room.release(len(batch))
        self.is_over = is_over
        return batch, self._failure if is_over else None

    def leave(self) -> None:
        """Nobody listens any more."""
        self._is_left = True
        self._room.release()
        if self._stream is not None:
            self._stream.cancel()

    def _run(self) -> None:
        try:
            with streaming(self._engine, self._request, seen=self._see) as stream:
                for event in stream:
                    self._room.acquire()
                    if self._is_left:
                        return
                    self._arrived.append(event)
                    if not self._news.is_set():
                        self._tell(self._news.set)
        except BaseException as error:
            self._failure = error
        finally:
            self._tell(self._end)

    def _see(self, stream: object) -> None:
        """The engine's own stream: of some, the wait can be ended too, as during a long prompt."""
        if isinstance(stream, Cancellable):
            self._stream = stream
            if self._is_left:
                stream.cancel()

    def _end(self) -> None:
        self.ended.set()
        self._news.set()

    def _tell(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(callback)


@asynccontextmanager
async def _counted(engine: Engine) -> AsyncIterator[Generation | None]:
    """A place among those that the engine runs at once, and what counts the generation; None outside of requests."""
    visit = VISIT.get()
    if visit is None:
        async with _outside_of_requests.place(engine):
            yield None
        return
    model = engine.info.model if visit.model is None else visit.model
    with visit.metrics.generation(model, visit.key_name, visit.arrived_s) as seen:
        async with visit.admission.place(engine):
            seen.begin()
            yield seen


def _give_back(lease: AbstractContextManager[Loaded], entering: asyncio.Future[Loaded]) -> None:
    """Leave a lease that was entered after nobody wanted it any more."""
    if not entering.cancelled() and entering.exception() is None:
        threading.Thread(target=lease.__exit__, args=(None, None, None), daemon=True).start()


async def undisturbed(work: Awaitable[object]) -> None:
    """Finish it even when this task is cancelled meanwhile; the cancellation follows."""
    task = asyncio.ensure_future(work)
    was_cancelled = False
    with CancelScope(shield=True):  # from anyio's cancellation, which would come again in every turn of the loop
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                was_cancelled = True
    task.result()
    if was_cancelled:
        raise asyncio.CancelledError


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
