"""What a machine is, as far as it could be found out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One graphics processor. Memory is its own, or the machine's where both share it (``is_unified``)."""

    name: str
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    is_unified: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use; None is unknown, never a guess.

    physical_cores, logical_cores   after CPU affinity and container limits
    cpu_limit                       processors that a container grants; None when it sets no limit
    isa                             vector extensions that matter here, by the names in ``cpu.ISA_NAMES``
    last_level_cache_bytes          of one socket
    ram_available_bytes             what new work could take without swapping, container limits included
    gpus                            empty when there are none, None when asking failed
    disk_free_bytes                 where models are kept
    """

    system: str
    architecture: str
    cpu: str | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    cpu_limit: float | None = None
    isa: tuple[str, ...] | None = None
    last_level_cache_bytes: int | None = None
    ram_total_bytes: int | None = None
    ram_available_bytes: int | None = None
    gpus: tuple[Gpu, ...] | None = None
    disk_free_bytes: int | None = None
