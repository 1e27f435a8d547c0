"""Documents that are read into collections: one at a time, in the background, and behind answers that are computed."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

from madang.core.errors import MadangError, Overloaded

if TYPE_CHECKING:
    from madang.rag.collections import Collections
    from madang.rag.stored import StoredDocument

IngestState = Literal["waiting", "reading", "embedding", "done", "unchanged", "failed", "cancelled"]
OVER: Final = frozenset({"done", "unchanged", "failed", "cancelled"})
MOST_REMEMBERED: Final = 256  # that are over
MOST_WAITING: Final = 1000
MOST_WAITING_BYTES: Final = 4 << 30  # of uploads that wait, on the disk
POLITE_S: Final = 2.0  # that some chunks wait for answers that are computed: these go on, and so does the document
_LOOK_S: Final = 0.02
_RETRY_S: Final = 10.0

_log = logging.getLogger("madang.server")


class IngestCancelled(MadangError):
    """Somebody ended it; the collection is as it was."""

    code = "ingest_cancelled"


@dataclass(eq=False, slots=True)
class Ingest:
    """One document on its way.

    content      an upload, which only this object holds, or a file of the server's machine
    document     its id, once it is there
    n_chunks     None until it has been read
    """

    id: str
    owner: str
    collection: str
    name: str
    content: IO[bytes] | Path
    size_bytes: int
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: IngestState = "waiting"
    n_chunks: int | None = None
    n_embedded: int = 0
    document: str | None = None
    error: BaseException | None = None
    is_cancelled: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in OVER

    def check(self) -> None:
        """Raises IngestCancelled when it is to end."""
        if self.is_cancelled:
            raise _cancelled(self)


class Ingests:
    """All of a server. ``is_busy`` says whether somebody waits for an answer at this moment."""

    def __init__(
        self,
        collections: Callable[[], Collections],
        is_busy: Callable[[], bool] = lambda: False,
        *,
        polite_s: float = POLITE_S,
    ) -> None:
        self._collections, self._is_busy, self._polite_s = collections, is_busy, polite_s
        self._changed = threading.Condition()
        self._waiting: deque[Ingest] = deque()
        self._all: dict[str, Ingest] = {}
        self._n_started = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def start(self, owner: str, collection: str, name: str, content: IO[bytes] | Path, size_bytes: int) -> Ingest:
        """Read it as soon as those before it are done. Raises Overloaded when too much waits."""
        with self._changed:
            self._check_room(size_bytes if not isinstance(content, Path) else 0)
            self._n_started += 1
            job = Ingest(f"ingest-{self._n_started}", owner, collection, name, content, size_bytes)
            self._all[job.id] = job
            self._waiting.append(job)
            self._forget()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="madang-ingest", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def find(self, owner: str, id: str) -> Ingest | None:
        """The one of that id, if it is this owner's."""
        with self._changed:
            job = self._all.get(id)
            return job if job is not None and job.owner == owner else None

    def list(self, owner: str) -> list[Ingest]:
        """An owner's that wait or are under way, and the last that are over."""
        with self._changed:
            return [job for job in self._all.values() if job.owner == owner]

    def cancel(self, job: Ingest) -> None:
        """End one at its next step; one that waits ends at once."""
        with self._changed:
            job.is_cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
                self._over(job, _cancelled(job))

    def forget(self, owner: str, collection: str) -> None:
        """End all that are meant for a collection that is gone."""
        for job in self.list(owner):
            if job.collection == collection and not job.is_over:
                self.cancel(job)

    def close(self) -> None:
        """End what is under way, and begin nothing new."""
        with self._changed:
            self._is_closing = True
            for job in self._all.values():
                job.is_cancelled = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(5.0)

    def _check_room(self, size_bytes: int) -> None:
        uploads = [job.size_bytes for job in self._waiting if not isinstance(job.content, Path)]
        if len(self._waiting) >= MOST_WAITING or sum(uploads) + size_bytes > MOST_WAITING_BYTES:
            raise Overloaded(
                f"{len(self._waiting)} documents are waiting to be read already, which is the limit.",
                retry_after_s=_RETRY_S,
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            self._run(job)

    def _run(self, job: Ingest) -> None:
        try:
            job.check()
            is_new, stored = self._read(job)
        except BaseException as error:
            if not isinstance(error, MadangError):
                _log.exception("a document could not be read", extra={"ingest": job.id})
            self._over(job, error)
        else:
            job.document = stored.id
            job.n_chunks = job.n_embedded = stored.n_chunks
            self._over(job, None, "done" if is_new else "unchanged")

    @staticmethod
    def _over(job: Ingest, error: BaseException | None, state: IngestState = "failed") -> None:
        job.error = error
        job.state = "cancelled" if isinstance(error, IngestCancelled) else state
        if not isinstance(job.content, Path):
            job.content.close()

    def _read(self, job: Ingest) -> tuple[bool, StoredDocument]:
        """Whether it is other than what was there, and what is there now."""
        from madang.rag.parsing import ParsingLimits, parse_document
        from madang.rag.parsing.parser import read_limited

        job.state = "reading"
        collections = self._collections()
        if isinstance(job.content, Path):
            content = read_limited(job.name, job.content, ParsingLimits())
        else:
            job.content.seek(0)
            content = job.content.read()
        digest = hashlib.sha256(content).hexdigest()
        known = collections.unchanged(job.owner, job.collection, job.name, digest)
        if known is not None:
            return False, known
        document = parse_document(job.name, content)
        del content
        job.check()
        progress = _Progress(job, self._is_busy, self._polite_s)
        return True, collections.add(
            job.owner, job.collection, document, job.name, digest, progress=progress, size_bytes=job.size_bytes
        )

    def _forget(self) -> None:
        over = [job for job in self._all.values() if job.is_over]
        for job in over[: max(len(over) - MOST_REMEMBERED, 0)]:
            del self._all[job.id]


def _cancelled(job: Ingest) -> IngestCancelled:
    return IngestCancelled(f"The reading of {job.name} was cancelled.")


class _Progress:
    """Tells the job how far it is, lets answers go first, and ends what was cancelled."""

    def __init__(self, job: Ingest, is_busy: Callable[[], bool], polite_s: float) -> None:
        self._job, self._is_busy, self._polite_s = job, is_busy, polite_s

    def split(self, n_chunks: int) -> None:
        """See AddProgress."""
        self._job.state, self._job.n_chunks = "embedding", n_chunks
        self._wait()

    def embedded(self, n_chunks: int) -> None:
        """See AddProgress."""
        self._job.n_embedded += n_chunks
        self._wait()

    def _wait(self) -> None:
        end_s = time.monotonic() + self._polite_s
        self._job.check()
        while self._is_busy() and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
            self._job.check()
