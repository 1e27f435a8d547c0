"""Several processes on one run, as torchrun and ``accelerate launch`` start them: each takes a part of every step.

Losses are sums over all tokens of a step divided by their number once, so the step is that of a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Who this process is among ``n``."""

    rank: int = 0
    n: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it writes files and tells people."""
        return self.rank == 0

    def part(self, everything: Sequence[T]) -> list[T]:
        """What of a step is computed here."""
        return list(everything[self.rank :: self.n])

    def add_up(self, tensors: Iterable[Any]) -> None:
        """Replace each by its sum over all processes."""
        if self.n == 1:
            return
        import torch

        kept = list(tensors)
        flat = torch.cat([tensor.reshape(-1).to(torch.float32) for tensor in kept])
        torch.distributed.all_reduce(flat)
        begin = 0
        for tensor in kept:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def told(self, value: T) -> T:
        """What the first process has for ``value``."""
        if self.n == 1:
            return value
        import json

        import torch

        text = torch.zeros(4096, dtype=torch.uint8)
        if self.is_first:
            raw = json.dumps(value).encode()
            text[: len(raw)] = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        torch.distributed.broadcast(text, 0)
        found: T = json.loads(bytes(text.tolist()).rstrip(b"\0"))
        return found

    def wait(self) -> None:
        """Until all are here."""
        if self.n > 1:
            import torch

            torch.distributed.barrier()


@contextmanager
def joined(environment: dict[str, str] | None = None) -> Iterator[Processes]:
    """This process among those of a launcher; alone where none started it."""
    given = os.environ if environment is None else environment
    n = int(given.get("WORLD_SIZE", "1"))
    if n == 1:
        yield Processes()
        return
    import torch

    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(int(given["RANK"]), n, int(given.get("LOCAL_RANK", "0")))
    finally:
        torch.distributed.destroy_process_group()
