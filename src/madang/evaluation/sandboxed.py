"""The inside of the sandbox: shuts itself in, runs a program, and says whether it came to its end.

Started as a file of its own, with nothing but the standard library: arguments are the limits as JSON and a file
descriptor; the program comes on stdin. The descriptor is told one line of JSON about what is shut, then "passed".
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock's system calls, the same on every architecture
_RULE_PATH_BENEATH = 1
_ABI_QUERY = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
# Access rights that versions of Landlock know: the bits below 13, 14 (refer), 15 (truncate), 16 (ioctl).
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_BIND_AND_CONNECT = 3
_SCOPE_SOCKETS_AND_SIGNALS = 3
_READABLE = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/System/Library")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def main() -> None:
    """See the module."""
    limits, told = json.loads(sys.argv[1]), int(sys.argv[2])
    program = sys.stdin.buffer.read().decode("utf-8")
    _limit(limits)
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    isolates = libc is not None and _leave_namespaces(libc)
    if isolates:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
        child = os.fork()
        if child:  # outside of the new process namespace: all of it ends with its first process
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    abi = 0 if libc is None else _shut_files(libc)
    shut = {"network": isolates, "tcp": isolates or abi >= 4, "files": abi >= 1, "processes": isolates}
    os.write(told, json.dumps(shut).encode() + b"\n")
    os.set_inheritable(told, False)
    Path("program.py").write_text(program, encoding="utf-8")
    runpy.run_path("program.py", run_name="program")
    os.write(told, b"passed\n")
    os._exit(0)


def _limit(limits: dict[str, int]) -> None:
    def set_limit(what: int, value: int) -> None:
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(ValueError, OSError):  # some systems refuse some
            resource.setrlimit(what, (value, value))

    set_limit(resource.RLIMIT_CPU, limits["cpu_s"])
    set_limit(resource.RLIMIT_AS, limits["memory_bytes"])
    set_limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    set_limit(resource.RLIMIT_NOFILE, limits["open_files"])
    set_limit(resource.RLIMIT_CORE, 0)


def _leave_namespaces(libc: ctypes.CDLL) -> bool:
    """Network, processes and shared memory of its own; False where the system does not let users have them."""
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC) == 0)


def _shut_files(libc: ctypes.CDLL) -> int:
    """Leave nothing but the working folder to write, and the system's programs to read; Landlock's version, or 0."""
    if platform.machine() not in ("x86_64", "aarch64"):
        return 0
    abi: int = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ABI_QUERY))
    if abi < 1:
        return 0
    every = (1 << _FS_BITS.get(abi, 16)) - 1
    ruleset = _Ruleset(every, _TCP_BIND_AND_CONNECT if abi >= 4 else 0, _SCOPE_SOCKETS_AND_SIGNALS if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    handle = libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if handle < 0:
        return 0
    _allow(libc, handle, ".", every)
    for path in {*_READABLE, sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)}:
        _allow(libc, handle, path, _EXECUTE | _READ_FILE | _READ_DIR)
    for path in _DEVICES:
        _allow(libc, handle, path, _READ_FILE | _WRITE_FILE)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return abi if libc.syscall(_RESTRICT_SELF, handle, ctypes.c_uint32(0)) == 0 else 0


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this system
        return
    if not Path(path).is_dir():
        access &= _EXECUTE | _READ_FILE | _WRITE_FILE
    rule = _PathRule(access, place)
    libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
    os.close(place)


if __name__ == "__main__":
    main()
