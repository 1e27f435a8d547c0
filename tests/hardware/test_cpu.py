from __future__ import annotations

import sys
from pathlib import Path

import pytest

from madang.hardware import cpu

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the files of Linux")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_x86(tmp_path: Path) -> None:
    flags = "flags\t\t: fpu sse2 avx avx2 avx512f avx512bw avx512_vnni avx512_bf16 avx_vnni"
    one = f"processor : 0\nmodel name\t: A Processor @ 3 GHz\n{flags}\n"
    root = write(tmp_path, {"proc/cpuinfo": one + "\n" + one})
    assert cpu.cpu_name(root) == "A Processor @ 3 GHz"
    assert cpu.isa(root) == ("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")


def test_arm(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "Features\t: fp asimd asimddp i8mm", "sys/firmware/devicetree/base/model": "A Board\0"}
    root = write(tmp_path, files)
    assert cpu.cpu_name(root) == "A Board"
    assert cpu.isa(root) == ("neon", "dotprod", "i8mm")


def test_nothing_is_guessed(tmp_path: Path) -> None:
    assert cpu.cpu_name(tmp_path) is None
    assert cpu.isa(tmp_path) is None
    assert cpu.last_level_cache_bytes(tmp_path) is None


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    siblings = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}
    folder = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = write(tmp_path, {folder.format(number): f"{text}\n" for number, text in siblings.items()})
    assert cpu.physical_cores({0, 1, 4, 5}, root) == 2
    assert cpu.physical_cores({0, 4}, root) == 1
    assert cpu.physical_cores({1, 4}, root) == 2
    assert cpu.logical_cores({1, 4}) == 2


def test_the_last_cache(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cache/index{}/size"
    root = write(tmp_path, {folder.format(0): "48K\n", folder.format(2): "2048K\n", folder.format(3): "32M\n"})
    assert cpu.last_level_cache_bytes(root) == 32 << 20
