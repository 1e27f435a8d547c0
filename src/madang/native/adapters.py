"""LoRA adapters that are loaded beside the weights, by name. Requests choose one; others run in the same step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from madang import _core
from madang.core.errors import AdapterMismatch, EngineError, InvalidRequest, NotEnoughMemory, UnknownOption
from madang.core.request import AdapterChoice
from madang.formats.adapters import AdapterDescription, read_adapter
from madang.formats.adapters.description import Floats
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType
from madang.native.scheduler import Scheduler
from madang.native.sequence import PLAIN, Namespace
from madang.native.worker import Worker

MAX_ADAPTERS: Final = 256
MAX_SCALE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded adapter: its id in the core, and what it takes there."""

    id: int
    rank: int
    size_bytes: int


class Adapters:
    """The adapters of one engine. They come and go between two steps, never during one."""

    def __init__(self, model: ModelDescription, worker: Worker) -> None:
        self._model = model
        self._worker = worker
        self._resident: dict[str, Resident] = {}

    @property
    def resident(self) -> Mapping[str, Resident]:
        """Those that are loaded, by name."""
        return dict(self._resident)

    def load(self, path: Path, name: str | None = None) -> str:
        """Read an adapter and put it beside the weights; returns its name, which is the path's if none is given.

        Raises what read_adapter raises, InvalidRequest when the name is taken, NotEnoughMemory.
        """
        adapter = read_adapter(path, self._model, name)
        self._worker.ask(lambda scheduler: self._add(scheduler.decoder, adapter))
        return adapter.name

    def unload(self, name: str) -> None:
        """Forget an adapter. Raises UnknownOption, EngineError while answers that use it are not over."""
        self._worker.ask(lambda scheduler: self._remove(scheduler, name))

    def namespace(self, choice: AdapterChoice | None) -> Namespace:
        """What a request with this choice is computed under. Raises UnknownOption, InvalidRequest for its scale."""
        if choice is None:
            return PLAIN
        resident = self._find(choice.name)
        if not abs(choice.scale) <= MAX_SCALE:
            raise InvalidRequest(
                f"The adapter's scale is {choice.scale}, but must be between {-MAX_SCALE} and {MAX_SCALE}.",
                param="adapter",
            )
        return Namespace(resident.id, float(np.float32(choice.scale)))

    def _find(self, name: str) -> Resident:
        if name not in self._resident:
            raise UnknownOption("adapter in this engine", name, tuple(self._resident))
        return self._resident[name]

    def _add(self, decoder: _core.Decoder, adapter: AdapterDescription) -> None:
        if adapter.name in self._resident:
            raise InvalidRequest(f"An adapter named '{adapter.name}' is loaded already.", param="adapter")
        if len(self._resident) >= MAX_ADAPTERS:
            raise InvalidRequest(f"{MAX_ADAPTERS} adapters are loaded; unload one first.", param="adapter")
        adapter_id = put_beside(decoder, adapter)
        self._resident[adapter.name] = Resident(adapter_id, adapter.rank, adapter.size_bytes)

    def _remove(self, scheduler: Scheduler, name: str) -> None:
        adapter_id = self._find(name).id
        if any(s.namespace.adapter == adapter_id for s in [*scheduler.running, *scheduler.waiting]):
            raise EngineError(f"The adapter '{name}' is in use.", hint="Unload it when its answers are over.")
        scheduler.decoder.remove_adapter(adapter_id)
        del self._resident[name]


def put_beside(decoder: _core.Decoder, adapter: AdapterDescription) -> int:
    """Put an adapter beside the weights; returns its id. On NotEnoughMemory, AdapterMismatch none is there."""
    adapter_id = decoder.add_adapter()
    try:
        for part, (a, b) in adapter.matrices.items():
            decoder.set_adapter_matrix(adapter_id, part, len(a), _typed(a), _typed(b))
    except (ValueError, MemoryError) as error:
        decoder.remove_adapter(adapter_id)
        if isinstance(error, MemoryError):
            raise NotEnoughMemory(f"The adapter {adapter.name}", adapter.size_bytes, None) from error
        raise AdapterMismatch(adapter.name, part, str(error)) from error
    return adapter_id


def _typed(values: Floats) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    return int(TensorType.F32), np.ascontiguousarray(values).view(np.uint8).reshape(-1)
