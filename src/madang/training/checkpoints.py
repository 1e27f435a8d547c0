"""Checkpoints: weights, moments, random numbers and the place in the run, each folder whole or not there.

safetensors and JSON only. The order of the data follows from seed and step, so the step is all that has to be kept.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from madang.core.errors import MalformedFile
from madang.core.progress import SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.gguf_writing import TensorToWrite
from madang.formats.safetensors_writing import write_file
from madang.formats.tensors import TensorType

FOLDER: Final = "checkpoints"
BEST: Final = "best"
_STEP: Final = re.compile(r"step-([0-9]{8})")
_WEIGHTS, _MOMENTS, _STATE = "weights.safetensors", "moments.safetensors", "state.json"


class Checkpoints:
    """Those of a run: the last step, and the weights with the best held-out loss."""

    def __init__(self, run: Path, n_bytes: int) -> None:
        """``n_bytes`` is what one takes."""
        self._folder = run / FOLDER
        self._n_bytes = n_bytes

    def save(self, step: int, model: Any, optimizer: Any, state: Mapping[str, Any]) -> None:
        """Write the step; older ones go when it is there. Raises NotEnoughDisk, after which they are as before."""
        require_disk(self._folder, self._n_bytes)
        with within_disk(self._folder, self._n_bytes), replacing(self._folder / f"step-{step:08d}") as folder:
            folder.mkdir()
            write_weights(folder / _WEIGHTS, trained(model))
            write_weights(folder / _MOMENTS, _moments(optimizer))
            (folder / _STATE).write_text(json.dumps({**state, "step": step, "random": _random()}))
        for path in self._folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match is not None and int(match[1]) < step:
                shutil.rmtree(path, ignore_errors=True)

    def save_best(self, model: Any) -> None:
        """Keep these weights as the best so far."""
        with within_disk(self._folder, self._n_bytes), replacing(self._folder / f"{BEST}.safetensors") as file:
            write_weights(file, trained(model))

    def last(self) -> Path | None:
        """The latest one."""
        found = [path for path in self._folder.glob("step-*") if _STEP.fullmatch(path.name)]
        return max(found, default=None)

    def load(self, path: Path, model: Any, optimizer: Any) -> dict[str, Any]:
        """Put back what :meth:`save` wrote; returns its ``state``. Raises MalformedFile."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state: dict[str, Any] = json.loads((path / _STATE).read_text())
            restore(model, load_file(path / _WEIGHTS))
            _put_moments(optimizer, load_file(path / _MOMENTS))
            random = bytearray(base64.b64decode(state.pop("random")))
            torch.set_rng_state(torch.frombuffer(random, dtype=torch.uint8))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise MalformedFile(path, f"it cannot be read as a checkpoint ({error})") from error
        return state

    def load_best(self, model: Any) -> bool:
        """Put the best weights back; False where none were kept."""
        from safetensors.torch import load_file

        path = self._folder / f"{BEST}.safetensors"
        if not path.exists():
            return False
        restore(model, load_file(path))
        return True


def write_weights(path: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file of float32, read back and compared. Raises OSError, which safetensors' own writer has no form
    for, and MalformedFile."""
    import torch

    def written(name: str, tensor: Any) -> TensorToWrite:
        numbers = tensor.detach().to("cpu", torch.float32).contiguous().reshape(-1).numpy()
        return TensorToWrite(name, TensorType.F32, tuple(tensor.shape), lambda: numbers)

    write_file(path, [written(name, tensor) for name, tensor in tensors.items()], SilentProgress())


def trained(model: Any) -> dict[str, Any]:
    """The weights that change, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def restore(model: Any, weights: Mapping[str, Any]) -> None:
    """Put them back. Raises KeyError for a name that is missing."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def _moments(optimizer: Any) -> dict[str, Any]:
    states = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, state in states.items() for name, value in state.items()}


def _put_moments(optimizer: Any, tensors: Mapping[str, Any]) -> None:
    states: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _random() -> str:
    import torch

    return base64.b64encode(bytes(torch.get_rng_state().tolist())).decode()
