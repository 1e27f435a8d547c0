from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, NotEnoughMemory
from madang.hardware import Machine, choose_buffer_bytes, measure_read_bandwidth, probe_machine
from madang.hardware.asking import ask
from madang.hardware.gpu import find_gpus

MIB = 1 << 20


def test_this_machine(tmp_path: Path) -> None:
    machine = probe_machine(tmp_path / "not" / "yet")
    assert machine.physical_cores is not None
    assert machine.logical_cores is not None
    assert 1 <= machine.physical_cores <= machine.logical_cores
    assert machine.ram_total_bytes is not None
    assert machine.ram_available_bytes is not None
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert machine.disk_free_bytes is not None
    quiet = probe_machine(gpus=False)
    assert (quiet.gpus, quiet.disk_free_bytes) == (None, None)


def test_affinity_is_respected() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot pin a process")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        machine = probe_machine(gpus=False)
    finally:
        os.sched_setaffinity(0, allowed)
    assert (machine.physical_cores, machine.logical_cores) == (1, 1)


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    if os.name == "nt":
        pytest.skip("needs an executable script")
    path = tmp_path / "nvidia-smi"
    path.write_text("#!/bin/sh\necho '143771, 143156, NVIDIA H200'\necho '[N/A], [N/A], A Name, with comma'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_gpus(driver: Path, tmp_path: Path) -> None:
    gpus = find_gpus(command=str(driver))
    assert gpus is not None
    assert [gpu.name for gpu in gpus] == ["NVIDIA H200", "A Name, with comma"]
    assert (gpus[0].memory_total_bytes, gpus[0].memory_free_bytes) == (143771 * MIB, 143156 * MIB)
    assert (gpus[1].memory_total_bytes, gpus[1].memory_free_bytes) == (None, None)
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus(command=str(driver)) is None


def test_no_driver(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("Apple's graphics processors need no driver command")
    assert find_gpus(command=str(tmp_path / "nvidia-smi")) == ()


def test_questions_do_not_hang() -> None:
    if os.name == "nt":
        pytest.skip("needs sleep")
    assert ask("sleep", "60", timeout_s=0.05) is None
    assert ask("/no/such/command") is None
    assert ask("echo", " hi ") == "hi"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bandwidth(threads: int) -> None:
    result = measure_read_bandwidth(threads, buffer_bytes=16 * MIB)
    assert result.read_bytes_per_s > 0
    assert result.copy_bytes_per_s > 0
    assert (result.threads, result.buffer_bytes) == (threads, 16 * MIB)


@pytest.mark.parametrize(("threads", "buffer_bytes"), [(0, MIB), (-1, MIB), (2, 100)])
def test_bandwidth_of_nothing(threads: int, buffer_bytes: int) -> None:
    with pytest.raises(InvalidRequest):
        measure_read_bandwidth(threads, buffer_bytes=buffer_bytes)


def test_the_buffer_suits_cache_and_memory() -> None:
    def machine(cache_mib: int | None, available_mib: int | None) -> Machine:
        cache = None if cache_mib is None else cache_mib * MIB
        available = None if available_mib is None else available_mib * MIB
        return Machine("Linux", "x86_64", last_level_cache_bytes=cache, ram_available_bytes=available)

    assert choose_buffer_bytes(machine(None, None)) == 512 * MIB
    assert choose_buffer_bytes(machine(256, 64_000)) == 1024 * MIB
    assert choose_buffer_bytes(machine(32, 600)) == 200 * MIB
    with pytest.raises(NotEnoughMemory):
        choose_buffer_bytes(machine(256, 600))
