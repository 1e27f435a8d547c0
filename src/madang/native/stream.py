"""The events of an answer, for the thread that waits for them, or for whoever has them pushed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from madang.core.events import Done, Event
from madang.native.sequence import CachedSequence
from madang.native.work import Generation
from madang.native.worker import Worker


class AnswerStream:
    """Begins with the first ``next`` or with ``push``, and is computed until its Done or until somebody cancels it,
    from any thread."""

    def __init__(self, worker: Worker, begin: Callable[[], tuple[CachedSequence, Generation]]) -> None:
        self._worker = worker
        self._begin = begin
        self._begun: tuple[CachedSequence, Generation] | None = None
        self._ready: deque[Event] = deque()
        self._is_over = False
        self._is_cancelled = False

    def __iter__(self) -> AnswerStream:
        return self

    def __next__(self) -> Event:
        if not self._ready:
            self._wait()
        event = self._ready.popleft()
        self._is_over = isinstance(event, Done)
        return event

    def push(self, receive: Callable[[Sequence[Event]], None], end: Callable[[Exception | None], None]) -> None:
        """See core.engine.Pushing."""

        def pass_on(item: list[Event] | Exception) -> None:
            if isinstance(item, Exception):
                self._is_over = True
                end(None if isinstance(item, _Cancelled) else item)
                return
            receive(item)
            if isinstance(item[-1], Done):
                self._is_over = True
                end(None)

        self._start(pass_on)

    def cancel(self) -> None:
        """See core.engine.Cancellable."""
        self._is_cancelled = True
        begun = self._begun
        if begun is not None and not self._is_over:
            sequence, work = begun
            self._worker.cancel(sequence)
            work.outbox.put(_Cancelled())

    def close(self) -> None:
        """What closes a generator: the same, and nothing that has come already is shown any more."""
        self._ready.clear()
        self.cancel()
        self._is_over = True

    def __del__(self) -> None:
        self.cancel()

    def _wait(self) -> None:
        """For the next events. Raises StopIteration when there are none, and what ended the work."""
        if self._is_over or self._is_cancelled:
            raise StopIteration
        try:
            work = self._start() if self._begun is None else self._begun[1]
            self._ready.extend(work.outbox.take())
        except BaseException as error:
            self.close()
            if isinstance(error, _Cancelled):
                raise StopIteration from None
            raise

    def _start(self, pass_on: Callable[[list[Event] | Exception], None] | None = None) -> Generation:
        sequence, work = self._begin()
        if pass_on is not None:
            work.outbox.pass_on(pass_on)
        self._worker.submit(sequence)
        self._begun = sequence, work
        if self._is_cancelled:  # meanwhile, by somebody who found nothing to cancel
            self.cancel()
        return work


class _Cancelled(Exception):
    """Wakes the thread that waits."""
