"""What models of the catalog would be on this machine, cheap enough to be asked again and again.

Sizes follow from the catalog alone and are counted once. Memory is what is free at the moment, and speeds are known
where the machine was measured (``madang doctor --measure``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from madang.hardware import MachineProfile, Reason, read_profile
from madang.hardware.probe import ram_bytes
from madang.hardware.profile import MACHINE_FILE
from madang.models import Catalog, CatalogEntry, HubReference, load_catalog
from madang.models.entry import FILE_TYPE
from madang.runtime.recommending import AS_PUBLISHED, DEPTH_TOKENS, USUAL_CONTEXT_TOKENS, Answer, Wish, recommend
from madang.runtime.sizing import Sized, Speed, forecast_speed, size_of

UNMEASURED: Final = "unknown until this machine is measured: madang doctor --measure"

Fits = Literal["yes", "tight", "no"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """One model in the type that its name means; None is unknown.

    fits            into what is free now; tight is into all memory of the machine, once others made room
    memory_bytes    with ``context_tokens`` of context; with ``is_exact`` false an estimate without its cache
    tokens_per_s    of an answer
    """

    type_name: str | None
    fits: Fits | None
    memory_bytes: int | None
    context_tokens: int
    tokens_per_s: float | None
    is_exact: bool


class Outlook:
    """For any number of threads."""

    def __init__(self, home: Path, catalog: Catalog | None = None) -> None:
        self._path = home / MACHINE_FILE
        self._home = home
        self._catalog = load_catalog() if catalog is None else catalog
        self._sizes: dict[tuple[str, str], Sized | None] = {}
        self._profile: tuple[tuple[int, int] | None, MachineProfile | None] = None, None
        self._lock = threading.Lock()

    @property
    def speed_is(self) -> str:
        """What predicts speeds, in a few words."""
        profile = self._measured()
        return (
            UNMEASURED
            if profile is None
            else Reason("forecast from what was measured at {when}", when=profile.measured_at)
        )

    def forecast(self, entry: CatalogEntry) -> Forecast:
        """See Forecast."""
        context_tokens = min(USUAL_CONTEXT_TOKENS, entry.context_tokens or USUAL_CONTEXT_TOKENS)
        type_name = _own_type(entry)
        size = None if type_name is None else self._size(entry, type_name)
        if size is None:
            return Forecast(type_name, None, None, context_tokens, None, False)
        memory_bytes = size.memory_bytes(context_tokens)
        is_exact = size.description is not None
        tokens_per_s = None
        if size.description is not None and entry.task == "chat":
            tokens_per_s = self._speed()(size.description, DEPTH_TOKENS)
        return Forecast(type_name, _fits(memory_bytes), memory_bytes, context_tokens, tokens_per_s, is_exact)

    def recommend(self, wish: Wish) -> Answer:
        """See :func:`~madang.runtime.recommending.recommend`."""
        return recommend(self._catalog.entries.values(), wish, self._speed(), size=self._size)

    def _size(self, entry: CatalogEntry, type_name: str) -> Sized | None:
        key = str(entry.reference), type_name
        with self._lock:
            if key not in self._sizes:
                self._sizes[key] = size_of(entry, type_name)
            return self._sizes[key]

    def _speed(self) -> Speed:
        profile = self._measured()
        return _unknown if profile is None else forecast_speed(profile)

    def _measured(self) -> MachineProfile | None:
        """The profile, read again when it was measured again."""
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size
        except OSError:
            stamp = None
        with self._lock:
            if stamp is None or stamp != self._profile[0]:
                self._profile = stamp, None if stamp is None else read_profile(self._home)
            return self._profile[1]


def _own_type(entry: CatalogEntry) -> str | None:
    """The type of the file that the name means; of a folder what it is loaded as."""
    if entry.format != "gguf":
        return AS_PUBLISHED[entry.task]
    path = entry.source.file if isinstance(entry.source, HubReference) else None
    found = None if path is None else FILE_TYPE.search(path)
    types: Sequence[str] = entry.types
    return found[1].upper() if found is not None else types[0] if len(types) == 1 else None


def _fits(needed_bytes: int) -> Fits:
    total_bytes, available_bytes = ram_bytes()
    return "yes" if needed_bytes <= available_bytes else "tight" if needed_bytes <= total_bytes else "no"


def _unknown(_description: object, _depth_tokens: int) -> None:
    return None
