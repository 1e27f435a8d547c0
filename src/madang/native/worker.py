"""The thread that computes. Everyone else only sends it messages, so nothing here needs a lock.

Whoever waits for an answer may be interrupted at any moment (Ctrl-C, a closed connection); the thread is not, so what
the engine holds is always whole. It sleeps while there is nothing to do, and starts with the first message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from madang.core.errors import EngineError
from madang.native.scheduler import Scheduler
from madang.native.sequence import CachedSequence

T = TypeVar("T")

_Message = Callable[[Scheduler], None]


class Worker:
    """Runs a scheduler. ``name`` is the model's, for messages."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler: Scheduler | None = scheduler
        self._name = name
        self._inbox: SimpleQueue[_Message | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._door = threading.Lock()  # between those who send and the one who closes

    def submit(self, sequence: CachedSequence) -> None:
        """Compute it; its work hears of everything. Raises EngineError when closed."""
        self._send(lambda scheduler: scheduler.add(sequence))

    def cancel(self, sequence: CachedSequence) -> None:
        """Stop computing it at the next step. Does nothing when that has happened already."""
        if not self.is_closed:
            self._inbox.put(lambda scheduler: scheduler.cancel(sequence))

    def ask(self, question: Callable[[Scheduler], T]) -> T:
        """Run ``question`` between two steps and return what it returns, or raise what it raises.

        Raises EngineError when closed.
        """
        reply: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def answer(scheduler: Scheduler) -> None:
            try:
                reply.put((question(scheduler), None))
            except Exception as error:
                reply.put((None, error))

        self._send(answer)
        result, error = reply.get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def check_open(self) -> None:
        """Raise EngineError when closed."""
        if self.is_closed:
            raise self._closed()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more work."""
        return self._scheduler is None

    def close(self) -> None:
        """Finish the step under way, end what is left with EngineError, and let go of everything."""
        with self._door:
            scheduler, self._scheduler = self._scheduler, None
            thread, self._thread = self._thread, None
        if scheduler is None:
            return
        self._inbox.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _send(self, message: _Message) -> None:
        with self._door:
            scheduler = self._scheduler
            if scheduler is None:
                raise self._closed()
            self._inbox.put(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, args=(scheduler,), name="madang", daemon=True)
                self._thread.start()

    def _work(self, scheduler: Scheduler) -> None:
        is_open = True
        while is_open:
            try:
                is_open = self._obey(scheduler)
                if is_open:
                    scheduler.step()
            except Exception as error:  # a fault in the scheduler itself: go on with nothing
                failure = EngineError(f"The engine of {self._name} failed and dropped what it was doing: {error}.")
                failure.__cause__ = error
                scheduler.drop_all(failure)
        scheduler.drop_all(self._closed())

    def _obey(self, scheduler: Scheduler) -> bool:
        """Take all messages, waiting for one when there is nothing else to do. False when it is time to stop."""
        while True:
            try:
                message = self._inbox.get(block=not scheduler.is_busy)
            except Empty:
                return True
            if message is None:
                return False
            message(scheduler)

    def _closed(self) -> EngineError:
        return EngineError(f"The engine of {self._name} is closed.")
