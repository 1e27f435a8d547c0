"""Facts about the machine and the checkout that a figure means nothing without, and how busy others keep the machine.

Read from Linux's /proc and /sys; elsewhere what can't be read is None.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The flags that decide which kernels an engine can use; the other hundred say nothing about speed.
ISA_FLAG = re.compile(r"^(avx|amx|fma|f16c|sse4|bmi|gfni|asimd|sve|sme|i8mm|bf16|neon|fphp)")


def physical_cores() -> int:
    """Return the cores this process may run on, hyper-threads of one core counted once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_siblings(processor) for processor in allowed}
    return len(siblings)


def _siblings(processor: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else str(processor)


def describe_machine() -> dict[str, Any]:
    """Return CPU model, cores, ISA flags, memory in bytes, kernel and Python version."""
    cpu = _first_cpu()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    return {
        "cpu_model": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "architecture": platform.machine(),
        "physical_cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "virtual_machine": "hypervisor" in flags,
        "isa_flags": sorted(flag for flag in flags if ISA_FLAG.match(flag)),
        "memory_bytes": _memory_bytes(),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _first_cpu() -> dict[str, str]:
    """Return the first processor's block of /proc/cpuinfo as key -> value."""
    path = Path("/proc/cpuinfo")
    block = path.read_text().split("\n\n")[0] if path.exists() else ""
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory_bytes() -> int | None:
    path = Path("/proc/meminfo")
    found = re.search(r"MemTotal:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found.group(1)) * 1024 if found else None


def describe_checkout(folder: Path) -> dict[str, Any]:
    """Return the git commit of `folder` and whether tracked files differ from it; None where git can't tell."""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "modified": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of the whole machine since it started, summed over processors."""

    busy_s: float
    steal_s: float

    @classmethod
    def now(cls) -> CpuTime | None:
        """Read /proc/stat; None where there is none."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        ticks = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        per_second = os.sysconf("SC_CLK_TCK")
        return cls((user + nice + system + irq + softirq) / per_second, steal / per_second)
