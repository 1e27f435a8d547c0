"""Running programs that a model wrote: apart from this process, without a network, within limits.

What is shut depends on the system: Linux has namespaces (network, processes) where users may have them, and Landlock
(files). :func:`sandbox_coverage` says what holds on this machine. Nothing here withstands an attack on the kernel; for
programs that somebody wrote to do harm, use a virtual machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from madang.core.errors import EngineError

_INSIDE: Final = Path(__file__).with_name("sandboxed.py")
_PASSED: Final = "passed"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one program may use; more ends it, and it has not passed.

    memory_bytes   of address space, for each of its ``processes``
    file_bytes     of each file that it writes
    """

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 24
    open_files: int = 64
    processes: int = 16


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. ``shut`` says what was closed to it: network, tcp, files, processes."""

    passed: bool
    timed_out: bool
    shut: Mapping[str, bool]


def run_program(program: str, limits: SandboxLimits) -> Ran:
    """Run Python source; it passes when its last line was reached. Raises EngineError where that cannot be done."""
    if sys.platform == "win32":
        raise EngineError("Programs of models are not run on Windows: it has no limits for them.")
    read, write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="madang-sandbox-") as folder, os.fdopen(read, "rb") as told:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_INSIDE), json.dumps(asdict(limits)), str(write)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
                pass_fds=(write,),
                start_new_session=True,
            )
        finally:
            os.close(write)
        timed_out = _wait(process, program.encode("utf-8", "replace"), limits.wall_s)
        lines = told.read(4096).decode("ascii", "replace").splitlines()
    shut = json.loads(lines[0]) if lines else {}
    return Ran(lines[1:] == [_PASSED] and not timed_out, timed_out, shut)


def _wait(process: subprocess.Popen[bytes], program: bytes, wall_s: float) -> bool:
    """Until it ends, or ended it; whether it took too long."""
    try:
        process.communicate(program, wall_s)
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it may have left behind
        process.wait()
    return False


@cache
def sandbox_coverage() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is covered on this machine, and what is not; sentences for people."""
    shut = run_program("", SandboxLimits()).shut
    covered = ["processor time, time, memory per process, size of a file and number of open ones are limited"]
    missing = [
        "how much it writes altogether within its time",
        "faults of the kernel: it is no virtual machine",
    ]
    if shut.get("network"):
        covered.append("there is no network")
    elif shut.get("tcp"):
        covered.append("there is no TCP")
        missing.append("network other than TCP: this system gives users no network namespaces")
    else:
        missing.append("the network: this system gives users no network namespaces")
    if shut.get("files"):
        covered.append("only a folder of its own can be written, and only the system's programs can be read")
    else:
        missing.append("files: it can read and write what you can")
    if shut.get("processes"):
        covered.append("it can signal no other process, and leaves none behind")
    else:
        missing.append("other processes: it can send signals to yours")
    if not shut.get("processes") or os.getuid() == 0:  # the system does not count those of root
        missing.append("the number of processes, and so their memory together")
    return tuple(covered), tuple(missing)
