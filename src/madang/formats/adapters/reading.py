"""Which kind of file an adapter is, and its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from madang.core.errors import MalformedFile, ModelNotFound, UnsupportedModel
from madang.formats.adapters.description import AdapterDescription, Floats
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorInfo, TensorType


def read_adapter(path: Path, model: ModelDescription, name: str | None = None) -> AdapterDescription:
    """The adapter in a PEFT folder or a GGUF file, in the form that fits ``model``; ``name`` is the path's, if None.

    Raises ModelNotFound, MalformedFile, UnsupportedModel for what is not plain LoRA, AdapterMismatch for an adapter of
    another model.
    """
    from madang.formats.adapters import gguf, peft

    name = path.stem if name is None else name
    if path.is_dir():
        return peft.read(path, model, name)
    if path.is_file():
        return gguf.read(path, model, name)
    raise ModelNotFound(str(path), hint="An adapter is a folder with adapter_config.json, or a GGUF file.")


def load_floats(tensor: TensorInfo) -> Floats:
    """The tensor as float32. Raises UnsupportedModel for a type that is not F32, F16 or BF16, MalformedFile."""
    n = tensor.n_elements
    match tensor.type:
        case TensorType.F32:
            values = np.fromfile(tensor.path, "<f4", n, offset=tensor.offset_bytes)
        case TensorType.F16:
            values = np.fromfile(tensor.path, "<f2", n, offset=tensor.offset_bytes).astype(np.float32)
        case TensorType.BF16:
            halves = np.fromfile(tensor.path, "<u2", n, offset=tensor.offset_bytes)
            values = (halves.astype(np.uint32) << 16).view(np.float32)
        case _:
            raise UnsupportedModel(f"the adapter tensor '{tensor.name}' of type {tensor.type.name}")
    if len(values) != n:
        raise MalformedFile(tensor.path, "it became shorter while it was read")
    return values.astype(np.float32, copy=False).reshape(tensor.shape)
