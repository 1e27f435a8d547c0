"""What this machine is: every question asked once, every answer optional."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from madang.hardware import cpu
from madang.hardware.gpu import find_gpus
from madang.hardware.limits import Limits, container_limits
from madang.hardware.machine import Machine


def probe_machine(home: Path | None = None, *, gpus: bool = True) -> Machine:
    """Look at the machine; takes milliseconds, or up to some seconds where an NVIDIA driver has to wake up.

    ``home`` is where models are kept, for the free disk space. Without ``gpus`` nobody asks for graphics processors,
    and they are unknown.
    """
    limits = container_limits()
    allowed = cpu.allowed_cpus()
    ram_total_bytes, ram_available_bytes = ram_bytes(limits)
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        cpu=cpu.cpu_name(),
        physical_cores=_within(limits.cpus, cpu.physical_cores(allowed)),
        logical_cores=_within(limits.cpus, cpu.logical_cores(allowed)),
        cpu_limit=limits.cpus,
        isa=cpu.isa(),
        last_level_cache_bytes=cpu.last_level_cache_bytes(),
        ram_total_bytes=ram_total_bytes,
        ram_available_bytes=ram_available_bytes,
        gpus=find_gpus(ram_total_bytes) if gpus else None,
        disk_free_bytes=None if home is None else _disk_free_bytes(home),
    )


def _within(limit: float | None, cores: int | None) -> int | None:
    """A share of a processor still runs one thread; more threads than the limit would only be paused in turn."""
    return cores if cores is None or limit is None else max(1, min(cores, int(limit)))


def ram_bytes(limits: Limits | None = None) -> tuple[int, int]:
    """All memory of the machine or of its container, and what of it new work could take."""
    import psutil

    limits = container_limits() if limits is None else limits
    memory = psutil.virtual_memory()
    total = [memory.total, limits.memory_bytes]
    available = [memory.available, limits.memory_left_bytes]
    return min(n for n in total if n is not None), min(n for n in available if n is not None)


def _disk_free_bytes(folder: Path) -> int | None:
    for existing in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(existing).free
        except OSError:
            continue
    return None
