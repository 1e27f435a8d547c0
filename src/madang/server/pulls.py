"""Downloads that several clients may watch: one for each model, however many ask for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal

from madang.core.errors import MadangError
from madang.models import ModelFiles, Sources, Store, StoredReference, pull

PullState = Literal["starting", "pulling", "done", "failed", "cancelled"]
MAX_REMEMBERED: Final = 64  # that are over


class PullCancelled(MadangError):
    """Everybody who wanted it has left; what arrived is kept for the next pull."""

    code = "pull_cancelled"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """A download at one moment. ``total_bytes`` is None while the source has not said it."""

    state: PullState
    total_bytes: int | None = None
    completed_bytes: int = 0
    error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(eq=False, slots=True)
class Pull:
    """One download, told of by the source's thread.

    n_wanting    clients that would miss it
    """

    id: str
    reference: StoredReference
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    progress: PullProgress = field(default_factory=lambda: PullProgress("starting"))
    n_wanting: int = 0
    is_cancelled: bool = False

    def started(self, total_bytes: int | None) -> None:
        """See models.Progress."""
        self._check()
        self.progress = PullProgress("pulling", total_bytes)

    def advanced(self, n_bytes: int) -> None:
        """See models.Progress."""
        self._check()
        now = self.progress
        self.progress = PullProgress("pulling", now.total_bytes, now.completed_bytes + n_bytes)

    def finished(self) -> None:
        """See models.Progress."""

    def cancel(self) -> None:
        """End it, whoever wants it. What arrived is kept."""
        self.is_cancelled = True

    @property
    def digest(self) -> str:
        """Clients show one bar for each digest; this one is of the model's name, for a model may have many files."""
        return f"sha256:{sha256(str(self.reference).encode()).hexdigest()}"

    def _check(self) -> None:
        if self.is_cancelled:
            raise PullCancelled(f"The pull of {self.reference} was cancelled.")


class Pulls:
    """All downloads of a server."""

    def __init__(self, store: Store, sources: Sources | None = None) -> None:
        self._store, self._sources = store, sources
        self._lock = threading.Lock()
        self._pulls: dict[str, Pull] = {}
        self._n_started = 0

    def start(self, reference: StoredReference) -> Pull:
        """The download of this model that is under way, or a new one; it goes on until it is cancelled."""
        with self._lock:
            under_way = self._under_way(reference)
            if under_way is not None:
                under_way.n_wanting += 1
                return under_way
            self._n_started += 1
            fresh = Pull(f"pull-{self._n_started}", reference, n_wanting=1)
            self._pulls[fresh.id] = fresh
            self._forget()
        threading.Thread(target=self._run, args=(fresh,), name="madang-pull", daemon=True).start()
        return fresh

    @contextmanager
    def wanting(self, reference: StoredReference) -> Iterator[Pull]:
        """The same for the time of a block; when the last who wanted it leaves, it is cancelled."""
        wanted = self.start(reference)
        try:
            yield wanted
        finally:
            with self._lock:
                wanted.n_wanting -= 1
                wanted.is_cancelled |= wanted.n_wanting == 0 and not wanted.progress.is_over

    def find(self, id: str) -> Pull | None:
        """The one of that id."""
        with self._lock:
            return self._pulls.get(id)

    def list(self) -> list[Pull]:
        """All that are under way, and the last that are over."""
        with self._lock:
            return list(self._pulls.values())

    def _run(self, job: Pull) -> None:
        try:
            files = pull(job.reference, self._store, job, self._sources)
        except PullCancelled as error:
            job.progress = _ended(job.progress, "cancelled", error)
        except BaseException as error:
            job.progress = _ended(job.progress, "failed", error)
        else:
            job.progress = PullProgress("done", files.size_bytes, _arrived(job.progress, files))

    def _under_way(self, reference: StoredReference) -> Pull | None:
        for job in self._pulls.values():
            if job.reference == reference and not job.progress.is_over and not job.is_cancelled:
                return job
        return None

    def _forget(self) -> None:
        over = [job for job in self._pulls.values() if job.progress.is_over]
        for job in over[: max(len(over) - MAX_REMEMBERED, 0)]:
            del self._pulls[job.id]


def _ended(progress: PullProgress, state: PullState, error: BaseException) -> PullProgress:
    return PullProgress(state, progress.total_bytes, progress.completed_bytes, error)


def _arrived(progress: PullProgress, files: ModelFiles) -> int:
    """A model that was here already has all its bytes, though none of them came."""
    return files.size_bytes if progress.state == "starting" else progress.completed_bytes
