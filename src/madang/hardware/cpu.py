"""The processor: its name, its cores, its vector extensions and its last cache. ``root`` is ``/`` except in tests."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from madang.hardware.asking import ask, read_text

ROOT = Path("/")

# What systems call an extension, and what we call it.
ISA_NAMES = {
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avxvnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512_vnni": "avx512_vnni",
    "avx512vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512bf16": "avx512_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "feat_dotprod": "dotprod",
    "i8mm": "i8mm",
    "feat_i8mm": "i8mm",
}
# https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-isprocessorfeaturepresent
_WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 19: "neon", 43: "dotprod", 66: "i8mm"}


def cpu_name(root: Path = ROOT) -> str | None:
    """As its maker calls it."""
    if sys.platform == "darwin":
        return ask("sysctl", "-n", "machdep.cpu.brand_string")
    if sys.platform == "win32":
        return platform.processor() or None
    for line in _cpuinfo(root, "model name", "Model Name", "Hardware"):
        return line
    model = read_text(root / "sys/firmware/devicetree/base/model")
    return model.strip("\0 \n") if model else None


def isa(root: Path = ROOT) -> tuple[str, ...] | None:
    """Vector extensions, in the order of ``ISA_NAMES``. Windows tells only part of them."""
    if sys.platform == "darwin":
        found = _isa_of_macos()
    elif sys.platform == "win32":
        found = _isa_of_windows()
    else:
        flags = [line.lower().split() for line in _cpuinfo(root, "flags", "Features")]
        found = {ISA_NAMES[flag] for flag in flags[0] if flag in ISA_NAMES} if flags else None
    return None if found is None else tuple(name for name in dict.fromkeys(ISA_NAMES.values()) if name in found)


def _isa_of_macos() -> set[str] | None:
    if platform.machine() == "arm64":
        names = [name for name in ISA_NAMES if name.startswith("feat_")]
        has = {ISA_NAMES[name] for name in names if ask("sysctl", "-n", f"hw.optional.arm.{_sysctl_case(name)}") == "1"}
        return has | {"neon"}
    features = ask("sysctl", "-n", "machdep.cpu.leaf7_features")
    return None if features is None else {ISA_NAMES[name] for name in features.lower().split() if name in ISA_NAMES}


def _sysctl_case(name: str) -> str:
    return {"feat_dotprod": "FEAT_DotProd"}.get(name, name.upper())


def _isa_of_windows() -> set[str] | None:
    if sys.platform != "win32":
        return None
    import ctypes

    is_present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return {name for number, name in _WINDOWS_FEATURES.items() if is_present(number)}


def allowed_cpus() -> frozenset[int] | None:
    """The logical processors that this process may run on; None where the system does not say."""
    import psutil

    try:
        return frozenset(psutil.Process().cpu_affinity())
    except (AttributeError, OSError):
        return None


def physical_cores(allowed: Collection[int] | None, root: Path = ROOT) -> int | None:
    """Cores among the allowed logical processors; two threads of one core count once."""
    if allowed is not None and sys.platform.startswith("linux"):
        folder = root / "sys/devices/system/cpu"
        siblings = {read_text(folder / f"cpu{number}/topology/thread_siblings_list") for number in allowed}
        if siblings and None not in siblings:
            return len(siblings)
    import psutil

    cores: int | None = psutil.cpu_count(logical=False)
    if cores is None or allowed is None:
        return cores
    return min(cores, len(allowed))


def logical_cores(allowed: Collection[int] | None) -> int | None:
    """Logical processors that this process may run on."""
    import psutil

    cores: int | None = psutil.cpu_count() if allowed is None else len(allowed)
    return cores


def last_level_cache_bytes(root: Path = ROOT) -> int | None:
    """Size of the last cache before memory, of one socket."""
    if sys.platform == "darwin":
        sizes = [
            ask("sysctl", "-n", name) for name in ("hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize")
        ]
        return max((int(size) for size in sizes if size and size.isdecimal()), default=None)
    sizes_bytes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", (read_text(path) or "").strip())
        if match is not None:
            sizes_bytes.append(int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]])
    return max(sizes_bytes, default=None)


def _cpuinfo(root: Path, *keys: str) -> Iterator[str]:
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys and value.strip():
            yield value.strip()
