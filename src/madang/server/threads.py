"""Threads for what may take a while: engines' streams, loads, files.

Idle ones wait for more, because on a machine whose cores compute, a new thread gets its first turn milliseconds late.
There may be any number of them: what limits the work stands in front of the engines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

IDLE_S = 30.0

Work: TypeAlias = Callable[[], object]


class Threads:
    """None ends a process late: nobody waits for what they do when it exits."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        """``idle_s``: how long a thread waits for more work."""
        self._idle_s = idle_s
        self._idle: list[SimpleQueue[Work]] = []  # whoever takes one out owns it

    def run(self, work: Work) -> None:
        """Begin at once. ``work`` never raises."""
        try:
            inbox = self._idle.pop()  # the one that waits for the shortest time
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="madang-call", daemon=True).start()
        inbox.put(work)

    def _serve(self, inbox: SimpleQueue[Work]) -> None:
        while (work := self._next(inbox)) is not None:
            work()
            del work  # what it holds is not kept while nothing is to be done
            self._idle.append(inbox)

    def _next(self, inbox: SimpleQueue[Work]) -> Work | None:
        try:
            return inbox.get(timeout=self._idle_s)
        except Empty:
            try:
                self._idle.remove(inbox)
            except ValueError:  # somebody took it at this moment
                return inbox.get()
            return None
