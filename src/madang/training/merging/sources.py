"""Models to merge: folders, and adapters as the model that they make of their base. Values come a tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.core.progress import Progress
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES, read_folder
from madang.formats.gguf_writing import TensorToWrite
from madang.formats.json_object import read_json_object
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import quantize
from madang.training.folders import write_folder
from madang.training.folding import FoldedModel
from madang.training.merging.arithmetic import Recipe, merge_values

_FLOATS: Final = (TensorType.F32, TensorType.F16, TensorType.BF16)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A model to merge: that of ``folder``, or what an adapter makes of it (``is_adapted``)."""

    name: str
    folder: Path
    model: FoldedModel
    is_adapted: bool = False

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By the folder's names."""
        return self.model.tensors


def open_source(path: Path, base: Path | None = None) -> Source:
    """The model in the folder ``path``; of an adapter there, the model that it makes of ``base``.

    Raises InvalidRequest for a file, a quantized folder, or an adapter without a base; CannotConvert for an adapter
    that cannot be folded, AdapterMismatch, and what reading raises.
    """
    _refuse_quantized(path if base is None else base)
    if (path / CONFIG_FILE).is_file():
        _refuse_quantized(path)
        return Source(path.name, path, FoldedModel(path))
    if base is None:
        raise InvalidRequest(
            f"{path} is no model folder; an adapter needs the model that it was trained on.",
            param="base",
            hint="Give it with --base FOLDER.",
        )
    return Source(path.name, base, FoldedModel(base, path), is_adapted=True)


def _refuse_quantized(path: Path) -> None:
    if path.is_file():
        raise InvalidRequest(
            f"{path.name} is a file; models are merged as folders of full-precision weights, never into a quantized "
            "base, whose rounding would swallow small changes.",
            hint="Take the original folder; or, knowing what is lost already: madang convert FILE FOLDER",
        )
    if not (path / CONFIG_FILE).is_file():
        return
    config = read_json_object(path / CONFIG_FILE, MAX_CONFIG_BYTES)
    stored = {tensor.type for tensor in read_folder(path).tensors.values()}
    if config.get("quantization_config") is not None or not stored <= set(_FLOATS):
        raise InvalidRequest(
            f"{path} is quantized, and nothing is merged into a quantized base: its rounding would swallow small "
            "changes.",
            hint="Merge into the full-precision original, then: madang quantize",
        )


def write_merged(
    target: Path,
    sources: Sequence[Source],
    recipe: Recipe,
    base: Source | None = None,
    *,
    n_threads: int = 1,
    progress: Progress | None = None,
    documents: Mapping[str, Any] | None = None,
) -> int:
    """Write the merged model as the folder ``target``, in the types of the first; returns the bytes of its weights.

    Raises InvalidRequest where the models do not have the same tensors, or something is at ``target``; NotEnoughDisk.
    """
    first = sources[0]
    for other in (*sources[1:], *(() if base is None else (base,))):
        _require_alike(first, other)

    def merged(tensor: TensorInfo) -> npt.NDArray[np.uint8]:
        values = merge_values(
            tensor.name,
            [source.model.values(tensor.name) for source in sources],
            None if base is None else base.model.values(tensor.name),
            recipe,
        )
        rows = values.reshape(1, -1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
        return quantize(np.ascontiguousarray(rows), tensor.type, n_threads=n_threads)

    tensors = [
        TensorToWrite(tensor.name, tensor.type, tensor.shape, partial(merged, tensor))
        for tensor in first.tensors.values()
    ]
    config = read_json_object(first.folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    write_folder(target, first.folder, config, tensors, progress=progress, documents=documents)
    return sum(tensor.size_bytes for tensor in tensors)


def _require_alike(first: Source, other: Source) -> None:
    unlike = sorted(first.tensors.keys() ^ other.tensors.keys())
    if unlike:
        raise InvalidRequest(f"{first.name} and {other.name} do not fit: only one of them has '{unlike[0]}'.")
    for name, tensor in first.tensors.items():
        if other.tensors[name].shape != tensor.shape:
            shapes = f"{tensor.shape} and {other.tensors[name].shape}"
            raise InvalidRequest(f"{first.name} and {other.name} do not fit: '{name}' is {shapes}.")
