"""How fast this machine computes: what :mod:`madang.native.measuring` found in some seconds, kept in a file.

The figures are rates of the native engine's own kernels, so that a forecast is a sum of quotients (forecast.py). The
speed of shared memory changes from hour to hour, so a profile has a date, and a forecast is worth what its profile is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any, Final

from madang.core.locking import file_lock
from madang.core.writing import write_atomically
from madang.formats.tensors import TensorType
from madang.hardware.memory import packed_bits

MACHINE_FILE: Final = "machine.json"
LOCK_FILE: Final = "machine.lock"
MAX_MACHINE_BYTES: Final = 1 << 20
FORMAT: Final = 1
LEAST_MISSED: Final = 0.05  # of a step: nothing computes at no cost


@dataclass(frozen=True, slots=True)
class TypeSpeed:
    """Of matrices of one type, with all threads of the profile.

    decode_bytes_per_s   packed bytes that one token's products take, where memory does not keep them waiting
    multiplies_per_s     weights times tokens, in chunks of a prompt
    """

    decode_bytes_per_s: float
    multiplies_per_s: float


@dataclass(frozen=True, slots=True)
class CacheSpeed:
    """Of attention over one kind of cache, with all threads of the profile.

    A token waits for its keys and values, page by page, and multiplies them with the queries of all heads that share
    them; these two times add up.

    decode_bytes_per_s   bytes of keys and values that one token sees
    decode_pairs_per_s   elements of a query times the positions it sees, of one token
    prompt_pairs_per_s   the same in chunks of a prompt
    """

    decode_bytes_per_s: float
    decode_pairs_per_s: float
    prompt_pairs_per_s: float


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """What was measured, when, and on what.

    threads               that computed
    memory_bytes_per_s    how fast weights come that no cache holds
    cache_bytes           of all caches, as far as the next step finds there what this one read
    step_s, layer_s       of one token's step, and of each of its layers, beside what is read: waiting for one another
    row_elements_per_s    elements of activations, in chunks of a prompt (forecast.py says how many a layer has)
    one_thread            decode and prompt speed of one thread, as parts of those of all
    disturbed_share       of the figures: taken while other processes computed, so that they may be too low
    """

    measured_at: str
    version: str
    cpu: str | None
    isa: str
    threads: int
    types: Mapping[TensorType, TypeSpeed]
    memory_bytes_per_s: float
    cache_bytes: float
    caches: Mapping[str, CacheSpeed]
    step_s: float
    layer_s: float
    row_elements_per_s: float
    one_thread: tuple[float, float] = (1.0, 1.0)
    disturbed_share: float = 0.0

    def type_speed(self, tensor_type: TensorType) -> TypeSpeed:
        """That of the type, or of the measured one that takes the most similar memory: such types lie alike."""
        if tensor_type in self.types:
            return self.types[tensor_type]
        bits = packed_bits(tensor_type)
        return self.types[min(self.types, key=lambda measured: abs(packed_bits(measured) - bits))]

    def decode_rate(self, tensor_type: TensorType, step_bytes: float) -> float:
        """Bytes per second at which a step that reads ``step_bytes`` in all takes weights of this type."""
        missed = 1 - held_share(step_bytes, self.cache_bytes)
        return min(self.type_speed(tensor_type).decode_bytes_per_s, self.memory_bytes_per_s / max(missed, LEAST_MISSED))

    def thread_factors(self, threads: int) -> tuple[float, float]:
        """Decode and prompt speed of so many threads, as parts of those of the profile's; between both ends a line."""
        if self.threads == 1:
            return 1.0, 1.0
        share = min(max((threads - 1) / (self.threads - 1), 0.0), 1.0)
        decode, prompt = (one + (1 - one) * share for one in self.one_thread)
        return decode, prompt


def held_share(step_bytes: float, cache_bytes: float) -> float:
    """What part of the bytes that each step reads is still in a cache that replaces its lines at random.

    Of n bytes a step misses n (1 - h), each of which replaces any line, so a line outlives a step with the probability
    h = exp(-n (1 - h) / cache). A cache that replaced the oldest would hold nothing of more than it has room for;
    measured speeds are those of this one.
    """
    if step_bytes <= cache_bytes:
        return 1.0
    share = 0.0
    for _ in range(100):  # from below, towards the smaller of the two solutions; the other is 1
        share = exp(-step_bytes * (1 - share) / cache_bytes) if cache_bytes > 0 else 0.0
    return share


def effective_cache_bytes(step_bytes: float, share: float) -> float:
    """The cache of which :func:`held_share` says so: its inverse, for shares from 0 to less than 1."""
    return -step_bytes * (1 - share) / log(share) if share > 0 else 0.0


def read_profile(home: Path) -> MachineProfile | None:
    """The profile in this folder; None where there is none, or one that this version does not understand."""
    try:
        return profile_from(read_machine_file(home)["profile"])
    except (KeyError, TypeError, AttributeError):
        return None


def profile_from(document: Mapping[str, Any]) -> MachineProfile:
    """The same from JSON. Raises KeyError, TypeError or AttributeError for what is none."""
    return MachineProfile(
        **{
            **document,
            "types": {TensorType[name]: TypeSpeed(**speed) for name, speed in document["types"].items()},
            "caches": {name: CacheSpeed(**speed) for name, speed in document["caches"].items()},
            "one_thread": tuple(document["one_thread"]),
        }
    )


def save_profile(home: Path, profile: MachineProfile) -> None:
    """Keep it, in place of an earlier one."""
    with changed_machine_file(home) as record:
        record["profile"] = profile_document(profile)


def profile_document(profile: MachineProfile) -> dict[str, Any]:
    """As JSON has it."""
    from dataclasses import asdict

    document = asdict(profile)
    document["types"] = {tensor_type.name: asdict(speed) for tensor_type, speed in profile.types.items()}
    return document


def read_machine_file(home: Path) -> dict[str, Any]:
    """What was kept of this machine; empty where nothing was, or what is there is damaged: it can be measured again."""
    try:
        with (home / MACHINE_FILE).open(encoding="utf-8") as file:
            record = json.loads(file.read(MAX_MACHINE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == FORMAT else {}


@contextmanager
def changed_machine_file(home: Path) -> Iterator[dict[str, Any]]:
    """What was kept, to be changed: written whole at the end of the block, while other writers wait.

    Raises OSError. Nothing is written where the block raises.
    """
    with file_lock(home / LOCK_FILE):
        record = read_machine_file(home)
        yield record
        write_atomically(home / MACHINE_FILE, json.dumps({**record, "format": FORMAT}, indent=1))
