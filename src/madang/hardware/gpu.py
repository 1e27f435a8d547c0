"""Graphics processors: NVIDIA through its own command, Apple silicon by what it is."""

from __future__ import annotations

import platform
import shutil
import sys

from madang.hardware.asking import ask
from madang.hardware.machine import Gpu

_MIB = 1 << 20


def find_gpus(ram_total_bytes: int | None = None, command: str = "nvidia-smi") -> tuple[Gpu, ...] | None:
    """All that are found; None when the command is there but does not answer.

    ``ram_total_bytes`` is reported for Apple's, which use the machine's memory.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        name = ask("sysctl", "-n", "machdep.cpu.brand_string")
        return (Gpu(f"{name} GPU" if name else "Apple GPU", ram_total_bytes, is_unified=True),)
    if shutil.which(command) is None:
        return ()
    answer = ask(command, "--query-gpu=memory.total,memory.free,name", "--format=csv,noheader,nounits")
    return None if answer is None else tuple(_gpu(line) for line in answer.splitlines() if line.count(",") >= 2)


def _gpu(line: str) -> Gpu:
    total, free, name = (field.strip() for field in line.split(",", 2))
    return Gpu(name, _bytes(total), _bytes(free))


def _bytes(mebibytes: str) -> int | None:
    """Machines that share memory between GPU and CPU answer "[N/A]"."""
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None
