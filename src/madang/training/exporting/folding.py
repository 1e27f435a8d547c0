"""A trained model as a folder of whole weights, its adapter folded in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import InvalidRequest
from madang.core.progress import Progress, SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.gguf_writing import TensorToWrite, read_chunks
from madang.formats.json_object import read_json_object
from madang.formats.safetensors_writing import write_safetensors
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import FLOAT_TYPES, quantize
from madang.training.exporting.trained import Trained, require_full_precision
from madang.training.folding import FoldedModel

DTYPES: Final = {TensorType.F32: "float32", TensorType.F16: "float16", TensorType.BF16: "bfloat16"}
_REST_BYTES: Final = 64_000_000


def fold_adapter(
    trained: Trained, target: Path, tensor_type: TensorType | None = None, *, progress: Progress | None = None
) -> int:
    """Write the model with its adapter folded in (or as it is, without one) as the folder ``target``; return its bytes.

    tensor_type   F32, F16 or BF16 for all weights; None keeps what each has

    Tied heads stay tied. Raises InvalidRequest when something is at ``target``, CannotConvert for a quantized base and
    for changes that have no place in the folder, AdapterMismatch, MalformedFile, NotEnoughDisk; nothing is at
    ``target`` then.
    """
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="target", hint="Remove it, or name another place.")
    if tensor_type not in (None, *FLOAT_TYPES):
        raise InvalidRequest("Folders hold F32, F16 and BF16.", param="type", hint="For fewer bits: --to gguf:Q4_K_M.")
    require_full_precision(trained.folder)
    model = FoldedModel(trained.folder, trained.adapter)
    to_write = [_folded(model, tensor, tensor_type or tensor.type) for tensor in model.tensors.values()]
    n_bytes = sum(one.size_bytes for one in to_write)
    require_disk(target.parent, n_bytes + _REST_BYTES)
    progress = progress or SilentProgress()
    progress.started(n_bytes)
    with within_disk(target.parent, n_bytes + _REST_BYTES), replacing(target) as folder:
        folder.mkdir()
        trained.write_settings(folder)
        if tensor_type is not None:
            _state_dtype(folder, tensor_type)
        write_safetensors(folder, to_write, progress)
    progress.finished()
    return n_bytes


def require_fitting(folder: Path, adapter: Path) -> None:
    """Raise AdapterMismatch, CannotConvert or MalformedFile for an adapter that is not of the model in ``folder``."""
    FoldedModel(folder, adapter)


def _state_dtype(folder: Path, tensor_type: TensorType) -> None:
    config = read_json_object(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    config.pop("torch_dtype", None)
    config["dtype"] = DTYPES[tensor_type]
    (folder / CONFIG_FILE).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _folded(model: FoldedModel, tensor: TensorInfo, tensor_type: TensorType) -> TensorToWrite:
    """The tensor as it is written; its values are computed when they are asked for."""

    def data() -> Iterator[Any]:
        if tensor.type == tensor_type and not model.is_changed(tensor.name):
            yield from read_chunks(tensor)
            return
        values = model.values(tensor.name)
        rows = values.reshape(1, -1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
        yield quantize(np.ascontiguousarray(rows, np.float32), tensor_type, n_threads=1)

    return TensorToWrite(tensor.name, tensor_type, tensor.shape, data)
