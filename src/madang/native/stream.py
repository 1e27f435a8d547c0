"""The events of an answer, for the thread that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from madang.core.events import Done, Event
from madang.native.sequence import CachedSequence
from madang.native.work import Generation
from madang.native.worker import Worker


class AnswerStream:
    """Begins with the first ``next``, and is computed until its Done or until somebody cancels it, from any thread."""

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
            if self._begun is None:
                sequence, work = self._begin()
                self._worker.submit(sequence)
                self._begun = sequence, work
                if self._is_cancelled:  # meanwhile, by somebody who found nothing to cancel
                    self.cancel()
            self._ready.extend(self._begun[1].outbox.take())
        except BaseException as error:
            self.close()
            if isinstance(error, _Cancelled):
                raise StopIteration from None
            raise


class _Cancelled(Exception):
    """Wakes the thread that waits."""
