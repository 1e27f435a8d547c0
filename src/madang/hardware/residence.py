"""How much memory this process and those that it started hold."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from madang.hardware.probe import ram_bytes

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def resident_bytes() -> int:
    """Now; pages of mapped files that are in memory count."""
    n_bytes = 0
    for process in _processes():
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            n_bytes += process.memory_info().rss
    return n_bytes


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Of this process with those that it started, and of the machine within the limits of its container."""

    process_bytes: int
    machine_total_bytes: int
    machine_available_bytes: int


def memory_use() -> MemoryUse:
    """Now; takes a few milliseconds."""
    return MemoryUse(resident_bytes(), *ram_bytes())


def peak_bytes() -> int | None:
    """The most so far of each process, added up; None where the system does not say."""
    peaks = [_peak(process.pid) for process in _processes()]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _peak(pid: int) -> int | None:
    try:
        match = _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    return None if match is None else int(match[1]) * 1024
