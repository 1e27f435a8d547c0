"""What a container grants (Linux control groups, version 2 and 1). ``root`` is ``/`` except in tests.

A limit may stand on any group from ours up to the top; the tightest one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from madang.hardware.asking import read_text

ROOT = Path("/")
# Version 1 writes "no limit" as the largest page-aligned number.
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Limits:
    """None where no limit is set. ``memory_left_bytes`` counts file caches that can be dropped as free."""

    cpus: float | None = None
    memory_bytes: int | None = None
    memory_left_bytes: int | None = None


def container_limits(root: Path = ROOT) -> Limits:
    """The tightest limits on this process."""
    cpus: list[float] = []
    memory_bytes: list[int] = []
    left_bytes: list[int] = []
    for controllers, folder in _groups(root):
        if (quota := _cpu_quota(folder)) is not None and controllers & {"", "cpu"}:
            cpus.append(quota)
        if (limit := _memory_limit(folder)) is not None and controllers & {"", "memory"}:
            memory_bytes.append(limit)
            left_bytes.append(max(limit - _memory_used(folder), 0))
    return Limits(min(cpus, default=None), min(memory_bytes, default=None), min(left_bytes, default=None))


def _groups(root: Path) -> Iterator[tuple[set[str], Path]]:
    """Controllers and folder of every group that we are in, directly or not; version 2 has the controller ""."""
    mount = root / "sys/fs/cgroup"
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        controllers = set(names.split(","))
        top = mount if controllers == {""} else mount / names
        relative = PurePosixPath(path.lstrip("/"))
        if ".." in relative.parts:  # our group lies outside of what this container sees
            relative = PurePosixPath()
        for group in (relative, *relative.parents):
            yield controllers, top / group


def _cpu_quota(folder: Path) -> float | None:
    fields = (read_text(folder / "cpu.max") or "").split()
    if len(fields) != 2:
        fields = [(read_text(folder / f"cpu.cfs_{name}_us") or "").strip() for name in ("quota", "period")]
    quota, period = (int(field) if field.isdecimal() else None for field in fields)
    return quota / period if quota is not None and period else None


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = (read_text(folder / name) or "").strip()
        if text.isdecimal() and int(text) < _UNLIMITED_BYTES:
            return int(text)
    return None


def _memory_used(folder: Path) -> int:
    for usage, cache in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        text = (read_text(folder / usage) or "").strip()
        if text.isdecimal():
            return int(text) - _statistic(folder, cache)
    return 0


def _statistic(folder: Path, name: str) -> int:
    for line in (read_text(folder / "memory.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0
