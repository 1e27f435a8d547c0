"""The models in memory: loaded when first asked for, kept for a while, given up when others need the room.

Life of an entry: loading -> kept, while leased or for ``keep_alive_s`` after -> leaving, until it is closed. Its bytes
count from the moment that room was made for it until it is closed, so two loads cannot take the same room.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from madang.core.engine import EngineInfo, Loaded, Supervised
from madang.core.errors import EngineError, NotEnoughMemory
from madang.core.settings import KEEP_ALIVE_S, Settings
from madang.core.units import format_duration
from madang.hardware import probe_machine
from madang.runtime.open import open_loaded
from madang.runtime.prospect import Identity, Prospect, foresee, identify

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory.

    size_bytes   the room that was made for it; 0 when that is not known
    expires_at   when it goes if nobody asks for it again; None is never
    n_leases     requests that use it now
    reason       one sentence: why this engine, and why it is here
    """

    reference: str
    info: EngineInfo
    size_bytes: int
    loaded_at: datetime
    expires_at: datetime | None
    n_leases: int
    reason: str


@dataclass(eq=False, slots=True)
class _Entry:
    """``n_leases`` counts those who wait for it to load, too; ``leaves_at`` is None for never, and while leased.

    prospect     known when room is made
    is_stale     another model by now, or dead: goes when its last lease ends, and nobody gets it any more
    is_leaving   someone closes it
    """

    identity: Identity
    keep_alive_s: float
    loading: Future[Loaded] = field(default_factory=Future)
    prospect: Prospect = field(default_factory=lambda: Prospect("", ""))
    loaded_at: datetime | None = None
    n_leases: int = 0
    leaves_at: float | None = None
    is_stale: bool = False
    is_leaving: bool = False

    @property
    def is_idle(self) -> bool:
        return self.loaded_at is not None and self.n_leases == 0 and not self.is_leaving

    def is_lost(self) -> bool:
        """Whether it is loaded, but its process has died."""
        if self.loaded_at is None:
            return False
        loaded = self.loading.result()
        return isinstance(loaded, Supervised) and not loaded.is_alive


class Pool:
    """Models by reference, for any number of threads. Names that mean the same model share one.

    What differs between requests (their context, their sampling) is part of the request: it never loads a model again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        budget_bytes: int | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
        patience_s: float = 0.0,
        open_loaded: Callable[[str, Settings], Loaded] = open_loaded,
        foresee: Callable[[str, Settings], Prospect] = foresee,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is loaded yet.

        budget_bytes   the most that all models take together; None is what this machine has free now
        keep_alive_s   how long a model stays after its last lease, where a lease does not say: 0 closes it then,
                       negative keeps it forever
        patience_s     how long a lease waits for others to end that leave too little room for its model
        open_loaded    loads a model; ``foresee`` says before what it will take
        clock          seconds that never go backwards
        """
        self._settings = settings
        self._budget_bytes = probe_machine(gpus=False).ram_available_bytes if budget_bytes is None else budget_bytes
        self._keep_alive_s = keep_alive_s
        self._patience_s = patience_s
        self._open_loaded = open_loaded
        self._foresee = foresee
        self._clock = clock
        self._entries: list[_Entry] = []  # the least recently used first
        self._is_closed = False
        self._changed = threading.Condition()
        self._timer: threading.Thread | None = None

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        """The model, for the time of a ``with`` block; it is not given up meanwhile.

        Blocks while it loads: once, however many ask. ``keep_alive_s`` counts from the end of the last lease, as the
        latest lease said; None is the pool's. Raises what ``open_loaded`` raises, to all who waited, NotEnoughMemory
        when leased models leave too little room for longer than the pool waits, EngineError when it is closed.
        """
        entry = self._take(reference, self._keep_alive_s if keep_alive_s is None else keep_alive_s)
        with self._held(entry) as loaded:
            yield loaded

    def lease_resident(
        self, reference: str, *, keep_alive_s: float | None = None
    ) -> AbstractContextManager[Loaded] | None:
        """The same at once, for a model that is in memory; None when it has to be loaded. Enter what it returns."""
        keep_alive_s = self._keep_alive_s if keep_alive_s is None else keep_alive_s
        identity = identify(reference, self._settings)
        with self._changed:
            self._check_open()
            self._mark_stale(identity)
            entry = self._find(identity)
            if entry is None or entry.loaded_at is None:
                return None
            self._hold(entry, keep_alive_s)
        return self._held(entry)

    def unload(self, reference: str) -> bool:
        """Give a model up: now, or when its last lease ends. False when it is not here."""
        identity = identify(reference, self._settings)
        with self._changed:
            found = [entry for entry in self._entries if not entry.is_leaving and entry.identity.means(identity)]
            for entry in found:
                entry.keep_alive_s = 0.0
            leaving = self._leaving([entry for entry in found if entry.is_idle])
        self._close(leaving)
        return bool(found)

    def resident(self) -> list[Resident]:
        """What is in memory, by name."""
        with self._changed:
            kept = [self._resident(entry) for entry in self._entries if not entry.is_leaving and entry.loaded_at]
        return sorted(kept, key=lambda resident: resident.reference)

    def expire(self) -> None:
        """Close what nobody asked for in time. A thread of the pool does so when it is due."""
        with self._changed:
            now = self._clock()
            due = [entry for entry in self._entries if entry.leaves_at is not None and entry.leaves_at <= now]
            leaving = self._leaving(due)
        self._close(leaving)

    def close(self) -> None:
        """Close every model, leased or not, and refuse new leases; a second call does nothing."""
        with self._changed:
            self._is_closed = True
            loaded = [entry for entry in self._entries if entry.loaded_at and not entry.is_leaving]
            leaving = self._leaving(loaded)
            self._changed.notify_all()
        self._close(leaving)

    # ---- leases

    def _take(self, reference: str, keep_alive_s: float) -> _Entry:
        identity = identify(reference, self._settings)
        with self._changed:
            self._check_open()
            self._mark_stale(identity)
            leaving = self._leaving([entry for entry in self._entries if entry.is_stale and entry.is_idle])
            entry = self._find(identity)
            is_new = entry is None
            if entry is None:
                entry = _Entry(identity, keep_alive_s)
                self._entries.append(entry)
            self._hold(entry, keep_alive_s)
        self._close(leaving)
        if is_new:
            self._load(entry)
        try:
            entry.loading.result()
        except BaseException:  # interrupted while others load it
            self._give_back(entry)
            raise
        return entry

    def _hold(self, entry: _Entry, keep_alive_s: float) -> None:
        entry.n_leases += 1
        entry.keep_alive_s, entry.leaves_at = keep_alive_s, None

    @contextmanager
    def _held(self, entry: _Entry) -> Iterator[Loaded]:
        try:
            yield entry.loading.result()
        finally:
            self._give_back(entry)

    def _give_back(self, entry: _Entry) -> None:
        with self._changed:
            entry.n_leases -= 1
            if entry in self._entries:
                self._entries.remove(entry)
                self._entries.append(entry)
            leaving: Sequence[_Entry] = ()
            if entry.is_idle and (entry.is_stale or entry.keep_alive_s == 0):
                leaving = self._leaving([entry])
            elif entry.is_idle and entry.keep_alive_s > 0:
                entry.leaves_at = self._clock() + entry.keep_alive_s
                self._start_timer()
            self._changed.notify_all()
        self._close(leaving)

    def _find(self, identity: Identity) -> _Entry | None:
        for entry in self._entries:
            if not (entry.is_stale or entry.is_leaving) and entry.identity.means(identity):
                return entry
        return None

    def _mark_stale(self, identity: Identity) -> None:
        for entry in self._entries:
            if entry.identity.means(identity):
                entry.is_stale |= not entry.identity.is_unchanged(identity) or entry.is_lost()

    # ---- loading

    def _load(self, entry: _Entry) -> None:
        """Put the model or the error into the entry; one thread does so."""
        try:
            loaded = self._open(entry)
        except BaseException as error:
            with self._changed:
                self._entries.remove(entry)
                self._changed.notify_all()
            entry.loading.set_exception(error)
            return
        with self._changed:
            entry.loaded_at = datetime.now(UTC)
            entry.loading.set_result(loaded)
            leaving = self._leaving([entry] if self._is_closed else [])
        self._close(leaving)

    def _open(self, entry: _Entry) -> Loaded:
        reference = entry.identity.reference
        prospect = self._foresee(reference, self._settings)
        waits_until = self._clock() + self._patience_s
        while (rival := self._reserve(entry, prospect, waits_until)) is not None:
            self._close([rival])
        while True:
            try:
                return self._open_loaded(reference, self._settings)
            except NotEnoughMemory:  # it needs more than was foreseen, or other programs took what was free
                with self._changed:
                    rivals = self._leaving(self._idle()[:1])
                if not rivals:
                    raise
                self._close(rivals)

    def _reserve(self, entry: _Entry, prospect: Prospect, waits_until: float) -> _Entry | None:
        """Count the entry's bytes as taken, or give the model that must be closed before.

        Waits while models in use leave too little room. Raises NotEnoughMemory when that takes longer than until
        ``waits_until``, or no waiting would help, EngineError when the pool is closed meanwhile.
        """
        with self._changed:
            while self._budget_bytes is not None:
                others = [other for other in self._entries if other is not entry]
                room_bytes = self._budget_bytes - sum(other.prospect.needed_bytes for other in others)
                if prospect.needed_bytes <= room_bytes:
                    break
                going = [other for other in others if other.is_idle or other.is_leaving]
                free_bytes = room_bytes + sum(other.prospect.needed_bytes for other in going)
                if prospect.needed_bytes > free_bytes:
                    patience_s = waits_until - self._clock()
                    if prospect.needed_bytes > self._budget_bytes or patience_s <= 0:
                        n_busy = sum(other.prospect.needed_bytes > 0 for other in others if other not in going)
                        raise _too_large(entry.identity.reference, prospect, free_bytes, n_busy=n_busy)
                    self._changed.wait(patience_s)
                    self._check_open()
                    continue
                idle = [other for other in self._idle() if other.prospect.needed_bytes > 0]
                if idle:
                    return self._leaving(idle[:1])[0]
                self._changed.wait()  # others close what makes the room
            entry.prospect = prospect
            return None

    def _idle(self) -> list[_Entry]:
        """Models that nobody uses, the least recently used first."""
        return [entry for entry in self._entries if entry.is_idle]

    # ---- leaving

    def _leaving(self, entries: Sequence[_Entry]) -> Sequence[_Entry]:
        """Those of ``entries`` that the caller is to close: nobody gets them from now on."""
        leaving = [entry for entry in entries if not entry.is_leaving]
        for entry in leaving:
            entry.is_leaving, entry.leaves_at = True, None
        return leaving

    def _close(self, entries: Sequence[_Entry]) -> None:
        """Outside of the lock: closing waits for threads and processes."""
        for entry in entries:
            try:
                entry.loading.result().close()
            except Exception:  # the caller asked for another model, and gets it
                _log.exception("%s could not be closed", entry.identity.reference)
            with self._changed:
                self._entries.remove(entry)
                self._changed.notify_all()

    def _start_timer(self) -> None:
        self._changed.notify_all()  # it may have to wake up sooner
        if self._timer is None:
            self._timer = threading.Thread(target=self._watch, name="madang-pool", daemon=True)
            self._timer.start()

    def _watch(self) -> None:
        while True:
            self.expire()
            with self._changed:
                if self._is_closed:
                    return
                due = [entry.leaves_at for entry in self._entries if entry.leaves_at is not None]
                self._changed.wait(max(min(due) - self._clock(), 0.0) if due else None)

    # ---- facts

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("The models were closed; the server is stopping.", hint="Start it again.")

    def _resident(self, entry: _Entry) -> Resident:
        assert entry.loaded_at is not None  # resident() asks for loaded ones only
        info = entry.loading.result().info
        stays_s = entry.keep_alive_s if entry.leaves_at is None else max(entry.leaves_at - self._clock(), 0.0)
        return Resident(
            reference=entry.identity.reference,
            info=info,
            size_bytes=entry.prospect.needed_bytes,
            loaded_at=entry.loaded_at,
            expires_at=None if entry.keep_alive_s < 0 else datetime.now(UTC) + timedelta(seconds=stays_s),
            n_leases=entry.n_leases,
            reason=_reason(entry, info),
        )


def _too_large(reference: str, prospect: Prospect, free_bytes: int, *, n_busy: int) -> NotEnoughMemory:
    hint = None
    if n_busy:
        hint = f"{n_busy} other model{'s are' if n_busy > 1 else ' is'} answering; try again when that is over."
    return NotEnoughMemory(reference, prospect.needed_bytes, max(free_bytes, 0), hint=hint)


def _reason(entry: _Entry, info: EngineInfo) -> str:
    why = entry.prospect.reason
    if info.engine != entry.prospect.engine:
        why = f"{entry.prospect.engine} refused it" if entry.prospect.engine else ""
    runs = f"Runs with {info.engine}{f' ({why})' if why else ''}"
    if entry.n_leases:
        return f"{runs}; {entry.n_leases} request{'s use' if entry.n_leases > 1 else ' uses'} it now."
    if entry.keep_alive_s < 0:
        return f"{runs}; kept until it is unloaded, or others need the room."
    return f"{runs}; kept for {format_duration(entry.keep_alive_s)} after its last request."
