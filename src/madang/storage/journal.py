"""Writing that nobody waits for: in order, by a thread of its own, and again when the database takes it again."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from madang.core.errors import MadangError, StorageError

MOST_WAITING = 256  # entries that are kept in memory while the database does not take them
MOST_WAITING_BYTES = 64 << 20
RETRY_S = 2.0

_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """What writes it, and about what it holds in memory."""

    write: Callable[[], object]
    n_bytes: int


class Journal:
    """A queue of transactions. :meth:`add` never waits; what cannot be written stays in the queue, and when that is
    full the oldest entries are lost and counted.

    n_lost   entries that will not be written any more
    """

    def __init__(
        self,
        *,
        most_waiting: int = MOST_WAITING,
        most_waiting_bytes: int = MOST_WAITING_BYTES,
        retry_s: float = RETRY_S,
    ) -> None:
        self.n_lost = 0
        self._most_waiting, self._most_bytes, self._retry_s = most_waiting, most_waiting_bytes, retry_s
        self._entries: deque[_Entry] = deque()
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._is_writing = self._is_stuck = self._is_closing = False
        self._thread: threading.Thread | None = None

    @property
    def n_waiting(self) -> int:
        """Entries that are not written yet."""
        return len(self._entries) + self._is_writing

    def add(self, write: Callable[[], object], n_bytes: int = 0) -> None:
        """Write it soon: ``write`` raises StorageError when that has to be tried again later.

        ``n_bytes`` is about what it holds in memory until then.
        """
        with self._changed:
            if self._is_closing:
                self.n_lost += 1
                return
            self._entries.append(_Entry(write, n_bytes))
            self._n_bytes += n_bytes
            self._lose_the_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="madang-journal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, limit_s: float) -> bool:
        """Wait until everything is written, but not for a database that does not work; whether it is."""
        end_s = time.monotonic() + limit_s
        with self._changed:
            while self.n_waiting and not self._is_stuck and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return not self.n_waiting

    def close(self, limit_s: float = 5.0) -> None:
        """Write what waits, trying each entry once more, and take nothing new."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(limit_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._entries and not self._is_closing:
                    self._changed.wait()
                if not self._entries:
                    return
                entry = self._entries.popleft()
                self._n_bytes -= entry.n_bytes
                self._is_writing = True
            is_taken = self._attempt(entry.write)
            with self._changed:
                self._is_writing = False
                self._is_stuck = not is_taken
                if is_taken:
                    self._changed.notify_all()
                    continue
                if self._is_closing:
                    self._lose()
                else:
                    self._entries.appendleft(entry)
                    self._n_bytes += entry.n_bytes
                    self._lose_the_oldest()
                self._changed.notify_all()
                if not self._is_closing:
                    self._wait_s(self._retry_s)

    def _attempt(self, write: Callable[[], object]) -> bool:
        """Whether it need not be tried again."""
        try:
            write()
        except StorageError:
            return False
        except MadangError as error:  # as of a session that was deleted meanwhile
            _log.warning(error.message)
            self.n_lost += 1
        except Exception:
            _log.exception("an entry of the history could not be written")
            self.n_lost += 1
        return True

    def _wait_s(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not self._is_closing and (left_s := end_s - time.monotonic()) > 0:
            self._changed.wait(left_s)

    def _lose_the_oldest(self) -> None:
        while len(self._entries) > self._most_waiting or (self._n_bytes > self._most_bytes and self._entries):
            self._n_bytes -= self._entries.popleft().n_bytes
            self._lose()

    def _lose(self) -> None:
        self.n_lost += 1
        if self.n_lost in (1, 10, 100) or self.n_lost % 1000 == 0:
            _log.warning("entries of the history are lost", extra={"lost": self.n_lost})
