"""How fast this machine reads memory, which bounds how fast it generates tokens.

Each generated token reads every weight once, so tokens per second <= bandwidth / bytes of weights.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from madang.core.errors import InvalidRequest, NotEnoughMemory
from madang.hardware.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_BUFFER_BYTES = 512 << 20
MIN_BUFFER_BYTES = 16 << 20
CACHE_MULTIPLE = 4
ROUNDS = 8
MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Best of several rounds, in bytes per second. ``copy`` counts a byte when read and again when written."""

    read_bytes_per_s: float
    copy_bytes_per_s: float
    threads: int
    buffer_bytes: int


def choose_buffer_bytes(machine: Machine) -> int:
    """Large enough that the last cache cannot hold it, small enough for the memory that is free.

    Raises NotEnoughMemory when both cannot be had.
    """
    cache_bytes = machine.last_level_cache_bytes or 0
    wanted = max(DEFAULT_BUFFER_BYTES, CACHE_MULTIPLE * cache_bytes)
    if machine.ram_available_bytes is None:
        return wanted
    room = machine.ram_available_bytes // 3  # the copy needs as much again
    smallest = max(MIN_BUFFER_BYTES, 2 * cache_bytes)
    if room < smallest:
        raise NotEnoughMemory("Measuring memory bandwidth", 3 * smallest, machine.ram_available_bytes)
    return min(wanted, room)


def measure_read_bandwidth(threads: int, *, buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> Bandwidth:
    """Read and copy a buffer with so many threads at once, for at most a few seconds.

    The read is a bitwise "or" of 8-byte words: cheap enough that memory is what limits it, on one thread too, and
    numpy neither holds the interpreter lock nor starts threads of its own for it. Raises InvalidRequest.
    """
    import numpy as np

    if threads < 1 or buffer_bytes < threads * 4096:
        raise InvalidRequest(f"{threads} threads cannot share a buffer of {buffer_bytes} bytes.", param="threads")
    source = np.empty(buffer_bytes // 8, np.uint64)
    target = np.empty_like(source)
    parts, copies = np.array_split(source, threads), np.array_split(target, threads)
    pairs = list(zip(parts, copies, strict=True))
    with ThreadPoolExecutor(threads) as pool:
        # The first touch maps the pages, each near the thread that will read it.
        list(pool.map(lambda part: part.fill(1), parts))
        list(pool.map(lambda part: part.fill(0), copies))
        read_s = _best_s(lambda: list(pool.map(np.bitwise_or.reduce, parts)))
        copy_s = _best_s(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
    return Bandwidth(source.nbytes / read_s, 2 * source.nbytes / copy_s, threads, source.nbytes)


def _best_s(work: Callable[[], Sequence[object]]) -> float:
    """Seconds of the fastest round: what the memory can do when nobody else is using it."""
    best_s, begin_s = float("inf"), time.perf_counter()
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        work()
        end_s = time.perf_counter()
        best_s = min(best_s, end_s - start_s)
        if end_s - begin_s > MAX_S / 2:
            break
    return best_s
