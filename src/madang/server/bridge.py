"""From the synchronous stream of an engine to an asynchronous one, and back when the client is gone."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from anyio import CancelScope
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from madang.core.engine import Cancellable, Engine, Loaded, Pushing, reading
from madang.core.events import Event
from madang.core.request import Request
from madang.server.limits import Admission
from madang.server.metrics import Generation
from madang.server.scopes import check_model
from madang.server.state import ModelPool, ResidentPool
from madang.server.threads import Threads
from madang.server.visit import VISIT

T = TypeVar("T")

QUEUE_EVENTS = 64  # that a slow client lets pile up before its generation waits

_outside_of_requests = Admission()
_THREADS = Threads()
_RUNNING: WeakSet[_Generation] = WeakSet()
_BELLS: WeakValueDictionary[asyncio.AbstractEventLoop, _Bell] = WeakValueDictionary()  # as long as something uses it


async def events(engine: Engine, request: Request) -> AsyncGenerator[Event, None]:
    """The stream of a request, which waits until the engine has a place for it.

    Leaving the iterator, by ``aclose`` or by cancellation, ends the generation within one step. Raises what the engine
    raises, and Overloaded when too many wait already.
    """
    async with _counted(engine) as seen:
        generation = _Generation(engine, request)
        _RUNNING.add(generation)
        _THREADS.run(generation.run)
        try:
            while batch := await generation.take():
                for event in batch:
                    if seen is not None:
                        seen.saw(event)
                    yield event
        finally:
            await generation.leave()


def end_all(reason: Exception) -> None:
    """Have every stream that runs in this process raise it after what has come already; in the loop."""
    for generation in list(_RUNNING):
        generation.fail(reason)


@asynccontextmanager
async def leased(pool: ModelPool, reference: str, *, keep_alive_s: float | None = None) -> AsyncIterator[Loaded]:
    """A lease of the pool; loading and unloading do not hold up other requests.

    Raises what loading raises, and what :func:`~madang.server.scopes.check_model` does. A client that leaves while
    its model loads leaves the load running, for the next one.
    """
    check_model(reference)
    with _held():
        async with _lease_of(pool, reference, keep_alive_s) as loaded:
            yield loaded


@contextmanager
def _held() -> Iterator[None]:
    """The running request is one that uses a model."""
    visit = VISIT.get()
    if visit is None:
        yield
        return
    visit.n_leases += 1
    try:
        yield
    finally:
        visit.n_leases -= 1


@asynccontextmanager
async def _lease_of(pool: ModelPool, reference: str, keep_alive_s: float | None) -> AsyncIterator[Loaded]:
    resident = pool.lease_resident(reference, keep_alive_s=keep_alive_s) if isinstance(pool, ResidentPool) else None
    if resident is None:
        lease = pool.lease(reference, keep_alive_s=keep_alive_s)
        loaded = await _entered(lease)
    else:
        lease = resident
        loaded = lease.__enter__()
    try:
        yield loaded
    finally:
        await undisturbed(in_thread(partial(lease.__exit__, None, None, None)))


async def _entered(lease: AbstractContextManager[Loaded]) -> Loaded:
    entering = asyncio.ensure_future(in_thread(lease.__enter__))
    try:
        return await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(lambda done: _give_back(lease, done))
        raise


@asynccontextmanager
async def placed(loaded: Loaded) -> AsyncIterator[None]:
    """A place among those that the engine runs at once, for work that is no stream. Raises Overloaded."""
    visit = VISIT.get()
    async with (_outside_of_requests if visit is None else visit.admission).place(loaded):
        if visit is not None:
            visit.is_placed = True
        try:
            yield
        finally:
            if visit is not None:
                visit.is_placed = False


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

    _THREADS.run(run)
    return await outcome


class _Generation:
    """An engine's stream, and the loop's end of it.

    A stream that pushes needs a thread only to begin. What it sends to a client that does not read piles up, as long
    as its answer is; one that has to be iterated waits in its thread.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._loop = asyncio.get_running_loop()
        self._bell = _bell(self._loop)
        self._arrived: list[Event] = []
        self._news: asyncio.Future[None] | None = None
        self._room = threading.Semaphore(QUEUE_EVENTS)
        self._is_left = self._is_pushed = False
        self._failure: BaseException | None = None
        self._stream: Cancellable | None = None
        self._ended = asyncio.Event()

    # ---- in the loop

    async def take(self) -> list[Event]:
        """What has come since the last call, waiting for something; empty at the end. Raises what ended the stream."""
        if not self._arrived and not self._ended.is_set():
            self._news = self._loop.create_future()
            await self._news
        batch, self._arrived = self._arrived, []
        if not batch and self._failure is not None:
            raise self._failure
        if not self._is_pushed:
            self._room.release(max(len(batch), 1))
        return batch

    async def leave(self) -> None:
        """Nobody listens any more: end what runs."""
        self._is_left = True
        if self._ended.is_set():
            return
        self._cancel()
        await undisturbed(self._ended.wait())

    def fail(self, reason: Exception) -> None:
        """End it as if the engine had failed."""
        self._is_left = True
        self._cancel()
        self._end(reason)

    def _cancel(self) -> None:
        self._room.release()
        if self._stream is not None:
            self._stream.cancel()

    def _arrive(self, events: Sequence[Event]) -> None:
        self._arrived += events
        self._wake()

    def _end(self, failure: BaseException | None) -> None:
        if self._ended.is_set():
            return
        self._failure = failure
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # ---- in threads

    def run(self) -> None:
        """Begin, and see to it that all events arrive."""
        try:
            stream = self._engine.generate(self._request)
            if isinstance(stream, Cancellable):  # of some, the wait can be ended too, as during a long prompt
                self._stream = stream
                if self._is_left:
                    stream.cancel()
            if isinstance(stream, Pushing):
                self._is_pushed = True
                stream.push(partial(self._bell.ring, self._arrive), partial(self._bell.ring, self._end))
                return
            self._iterate(stream)
        except BaseException as error:
            self._bell.ring(self._end, error)
        else:
            self._bell.ring(self._end, None)

    def _iterate(self, stream: Iterator[Event]) -> None:
        with reading(stream) as events:
            for event in events:
                self._room.acquire()
                if self._is_left:
                    return
                self._bell.ring(self._arrive, (event,))


class _Bell:
    """Wakes a loop once for all that threads have for it at that moment, as for many streams after one step."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._has_rung = False

    def ring(self, callback: Callable[[T], None], value: T) -> None:
        """Have the loop call ``callback(value)``, in the order of the calls; from any thread."""
        self._waiting.append((callback, value))
        if not self._has_rung:
            self._has_rung = True
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._has_rung = False  # before looking, so that nothing is overlooked
        for _ in range(len(self._waiting)):
            callback, value = self._waiting.popleft()
            callback(value)


def _bell(loop: asyncio.AbstractEventLoop) -> _Bell:
    bell = _BELLS.get(loop)
    if bell is None:
        bell = _BELLS[loop] = _Bell(loop)
    return bell


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
        visit.generations.append(seen)
        async with visit.admission.place(engine) as place:
            seen.begin(place)
            yield seen


def _give_back(lease: AbstractContextManager[Loaded], entering: asyncio.Future[Loaded]) -> None:
    """Leave a lease that was entered after nobody wanted it any more."""
    if not entering.cancelled() and entering.exception() is None:
        _THREADS.run(partial(lease.__exit__, None, None, None))


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
