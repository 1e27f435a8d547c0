"""The bridge between engines and the loop: order, failures, cancellation, queues."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

import pytest

from madang.core import Completion, Done, EngineInfo, Event, Loaded, Message, Request, TextDelta, collect
from madang.core.errors import EngineError, InvalidRequest, ModelNotFound
from madang.engines.echo import EchoEngine
from madang.server.bridge import QUEUE_EVENTS, events, leased

HELLO = Request(messages=(Message("user", "hello, hello, hello"),))


class Endless:
    """Sends text until its stream is closed."""

    info = EngineInfo(engine="test", model="endless", context_tokens=10**9)

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    def generate(self, request: Request) -> Iterator[Event]:
        try:
            while True:
                self.sent += 1
                yield TextDelta("x")
        finally:
            self.ended.set()

    def close(self) -> None:
        pass


class Failing(Endless):
    """Breaks after its first piece."""

    def generate(self, request: Request) -> Iterator[Event]:
        yield TextDelta("so far")
        raise EngineError("It broke.")


class Steps:
    """Pushes the next piece of every stream in each step of its own thread; ``fails_after`` pieces it breaks."""

    info = EngineInfo(engine="test", model="steps", context_tokens=10**9, max_concurrency=8)

    def __init__(self, n_steps: int, *, fails_after: int | None = None) -> None:
        self.n_steps, self.fails_after = n_steps, fails_after
        self.streams: list[Pushed] = []
        self.all_begun = threading.Event()

    def generate(self, request: Request) -> Pushed:
        return Pushed(self)

    def run(self) -> None:
        assert self.all_begun.wait(30)
        for step in range(self.n_steps):
            for stream in self.streams:
                stream.receive([TextDelta(f"{step} ")])
            if step == self.fails_after:
                for stream in self.streams:
                    stream.end(EngineError("It broke."))
                return
        for stream in self.streams:
            stream.receive([collect(EchoEngine().generate(HELLO)).done])
            stream.end(None)

    def close(self) -> None:
        pass


class Pushed:
    """One of its streams."""

    def __init__(self, engine: Steps) -> None:
        self._engine = engine
        self.thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Event]:
        raise AssertionError("it is not iterated")

    def __next__(self) -> Event:
        raise AssertionError("it is not iterated")

    def push(self, receive: Callable[[Sequence[Event]], None], end: Callable[[Exception | None], None]) -> None:
        self.receive, self.end = receive, end
        self._engine.streams.append(self)

    def cancel(self) -> None:
        self.end(None)


async def gathered(engine: EchoEngine | Endless | Steps, request: Request = HELLO) -> list[Event]:
    return [event async for event in events(engine, request)]


def test_the_asynchronous_stream_is_the_synchronous_one() -> None:
    def facts(completion: Completion) -> tuple[object, ...]:
        return completion.text, completion.done.usage.prompt_tokens, completion.done.finish_reason

    arrived = asyncio.run(gathered(EchoEngine()))
    assert isinstance(arrived[-1], Done)
    assert facts(collect(arrived)) == facts(collect(EchoEngine().generate(HELLO)))


def test_a_request_that_makes_no_sense_raises_before_the_first_event() -> None:
    with pytest.raises(InvalidRequest):
        asyncio.run(gathered(EchoEngine(), Request(messages=HELLO.messages, reasoning=True)))


def test_a_failure_comes_after_what_was_sent_before_it() -> None:
    async def run() -> list[Event]:
        arrived: list[Event] = []
        with pytest.raises(EngineError, match="It broke"):
            async for event in events(Failing(), HELLO):
                arrived.append(event)
        return arrived

    assert asyncio.run(run()) == [TextDelta("so far")]


def test_leaving_the_iterator_ends_the_generation() -> None:
    engine = Endless()

    async def run() -> None:
        async with aclosing(events(engine, HELLO)) as stream:
            await anext(stream)

    asyncio.run(run())
    assert engine.ended.is_set()


def test_cancelling_the_task_ends_the_generation() -> None:
    engine = Endless()

    async def run() -> None:
        task = asyncio.create_task(gathered(engine))
        while engine.sent == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert engine.ended.is_set()


def test_a_client_that_does_not_read_stops_the_engine() -> None:
    engine = Endless()

    async def run() -> int:
        async with aclosing(events(engine, HELLO)) as stream:
            await anext(stream)
            before = -1
            while engine.sent != before:  # until it stands still
                before = engine.sent
                await asyncio.sleep(0.05)
            return before

    assert asyncio.run(run()) <= 2 * QUEUE_EVENTS + 2  # the first batch, the queue, and the one in the engine's hand


def test_requests_wait_for_their_turn() -> None:
    engine = EchoEngine()  # refuses a second request at a time

    async def run() -> list[list[Event]]:
        return await asyncio.gather(*(gathered(engine) for _ in range(8)))

    assert all(collect(arrived).text == HELLO.messages[0].content for arrived in asyncio.run(run()))


# ---- streams that push


def pushed(engine: Steps, n_streams: int) -> list[list[Event] | BaseException]:
    async def run() -> list[list[Event] | BaseException]:
        tasks = [asyncio.create_task(gathered(engine)) for _ in range(n_streams)]
        while len(engine.streams) < n_streams:
            await asyncio.sleep(0.001)
        engine.all_begun.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    runner = threading.Thread(target=engine.run)
    runner.start()
    try:
        return asyncio.run(run())
    finally:
        runner.join()


def test_pushed_events_come_in_order() -> None:
    for arrived in pushed(Steps(200), 5):
        assert isinstance(arrived, list)
        assert collect(arrived).text == "".join(f"{step} " for step in range(200))


def test_a_failure_that_is_pushed_ends_the_stream() -> None:
    assert all(isinstance(outcome, EngineError) for outcome in pushed(Steps(200, fails_after=3), 2))


def test_leaving_a_pushed_stream_cancels_it() -> None:
    engine = Steps(1)

    async def run() -> None:
        task = asyncio.create_task(gathered(engine))
        while not engine.streams:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert asyncio.run(gathered(EchoEngine()))


# ---- leases


class OneModel:
    """A pool of one engine that counts its leases; ``may_load`` holds the load back."""

    def __init__(self) -> None:
        self.engine = EchoEngine()
        self.entered = 0
        self.left = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        if reference != "echo":
            raise ModelNotFound(reference)
        self.may_load.wait()
        self.entered += 1
        try:
            yield self.engine
        finally:
            self.left.set()

    def unload(self, reference: str) -> bool:
        return False

    def resident(self) -> list[object]:
        return []

    def close(self) -> None:
        self.engine.close()


def test_a_lease_ends_with_its_block() -> None:
    pool = OneModel()

    async def run() -> None:
        async with leased(pool, "echo") as loaded:
            assert loaded is pool.engine
            assert not pool.left.is_set()

    asyncio.run(run())
    assert pool.left.is_set()


def test_a_model_that_is_not_there_raises() -> None:
    async def run() -> None:
        async with leased(OneModel(), "other"):
            pass

    with pytest.raises(ModelNotFound):
        asyncio.run(run())


def test_whoever_leaves_during_the_load_gives_the_lease_back() -> None:
    pool = OneModel()
    pool.may_load.clear()

    async def hold() -> None:
        async with leased(pool, "echo"):
            raise AssertionError("nobody waits for it")

    async def run() -> None:
        task = asyncio.create_task(hold())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pool.may_load.set()
        assert await asyncio.to_thread(pool.left.wait, 10)

    asyncio.run(run())
    assert pool.entered == 1
