"""From one GGUF file to another with its tensors in other types, a few megabytes at a time.

The target is what it was before until all of the new file is on the disk and has been read back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from madang.core.errors import CannotQuantize
from madang.core.progress import Progress
from madang.formats.gguf import GGUFFile
from madang.formats.gguf_writing import TensorToWrite, ValueToWrite, WrittenFile, copied_tensor, write_gguf
from madang.formats.reading import OpenFile
from madang.formats.tensors import Octets, TensorInfo, TensorType, rows_of
from madang.quantization.encoding import (
    READABLE_TYPES,
    WRITABLE_TYPES,
    Matrix,
    dequantize,
    quantize,
    require_whole_blocks,
)

# That are float32 at once: enough for every thread, and little beside any model.
_CHUNK_ELEMENTS: Final = 1 << 22
_QUANTIZATION_VERSION: Final = 2  # of the blocks of GGUF files
_MIXED_FILE_TYPE: Final = 1024  # what the format calls a guess: no preset made it


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """A written file, and what became of its tensors.

    n_tensors        by type
    n_weighted       tensors that were quantized with an importance of their own
    was_quantized    the types that quantized tensors had before, where they were already of few bits
    """

    written: WrittenFile
    n_tensors: Mapping[TensorType, int]
    n_weighted: int
    was_quantized: tuple[TensorType, ...]


def quantize_file(
    source: GGUFFile,
    target: Path,
    types: Mapping[str, TensorType],
    *,
    importance: Mapping[str, Matrix] | None = None,
    n_threads: int,
    file_type: int = _MIXED_FILE_TYPE,
    metadata: Mapping[str, ValueToWrite] | None = None,
    progress: Progress | None = None,
) -> QuantizedFile:
    """Write ``source`` with tensors of those ``types``; tensors that have them already are copied.

    types        by name, as :func:`~madang.quantization.presets.preset_types` gives them; others stay as they are
    importance   by name, [n_columns] or [n_experts, n_columns]; tensors without one count all columns the same
    file_type    what ``general.file_type`` says: a preset's number
    metadata     put beside that of the source, or in its place

    Raises :class:`CannotQuantize` before anything is written for a type that is not read or written or does not fit a
    tensor's rows, or an importance of another shape; the same for values that are not numbers; and what
    :func:`~madang.formats.gguf_writing.write_gguf` raises.
    """
    importance = importance or {}
    changed = {
        name: types[name] for name, tensor in source.tensors.items() if types.get(name, tensor.type) != tensor.type
    }
    for name, tensor_type in changed.items():
        _require_possible(source.tensors[name], tensor_type, importance.get(name))
    tensors = [
        _quantized_tensor(tensor, changed[name], importance.get(name), n_threads)
        if name in changed
        else copied_tensor(tensor)
        for name, tensor in source.tensors.items()
    ]
    header: dict[str, ValueToWrite] = dict(source.metadata)
    header |= {
        "general.file_type": file_type,
        "general.quantization_version": _QUANTIZATION_VERSION,
        **(metadata or {}),
    }
    written = write_gguf(target, header, tensors, progress=progress)
    before = {source.tensors[name].type for name in changed}
    return QuantizedFile(
        written,
        Counter(tensor.type for tensor in tensors),
        sum(name in importance and _has_blocks(tensor_type) for name, tensor_type in changed.items()),
        tuple(sorted(tensor_type for tensor_type in before if _has_blocks(tensor_type))),
    )


def _has_blocks(tensor_type: TensorType) -> bool:
    return tensor_type.block_elements > 1


def _require_possible(tensor: TensorInfo, tensor_type: TensorType, importance: Matrix | None) -> None:
    try:
        if tensor.type not in READABLE_TYPES:
            raise CannotQuantize(f"madang does not read the type {tensor.type.name}")
        if tensor_type not in WRITABLE_TYPES:
            raise CannotQuantize(f"madang does not write the type {tensor_type.name}")
        require_whole_blocks(tensor.shape[-1], tensor_type)
        shape = (*tensor.shape[:-2], tensor.shape[-1])
        if importance is not None and importance.shape not in (shape, shape[-1:]):
            raise CannotQuantize(f"the importance has the shape {importance.shape}, expected {shape}")
    except CannotQuantize as error:
        raise _of_tensor(tensor, error) from error


def _of_tensor(tensor: TensorInfo, error: CannotQuantize) -> CannotQuantize:
    return CannotQuantize(f"{error.problem} ('{tensor.name}')", hint=error.hint)


def _quantized_tensor(
    tensor: TensorInfo, tensor_type: TensorType, importance: Matrix | None, n_threads: int
) -> TensorToWrite:
    def data() -> Iterator[Octets]:
        try:
            for part, weights in _parts(tensor, importance):
                for values in _read_rows(part):
                    yield quantize(values, tensor_type, importance=weights, n_threads=n_threads)
        except CannotQuantize as error:
            raise _of_tensor(tensor, error) from error

    return TensorToWrite(tensor.name, tensor_type, tensor.shape, data)


def _parts(tensor: TensorInfo, importance: Matrix | None) -> Iterator[tuple[TensorInfo, Matrix | None]]:
    """The rows that have an importance in common: all, or an expert's."""
    if importance is None or importance.ndim == 1:
        yield tensor, importance
        return
    for expert, weights in enumerate(importance):
        yield rows_of(tensor, expert, expert + 1), weights


def _read_rows(tensor: TensorInfo) -> Iterator[Matrix]:
    """The values of all rows in order, float32 [some, n_columns] at a time."""
    n_columns = tensor.shape[-1]
    n_rows = prod(tensor.shape[:-1])
    row_bytes = n_columns // tensor.type.block_elements * tensor.type.block_bytes
    step = max(1, _CHUNK_ELEMENTS // n_columns)
    begin, _ = tensor.file_range
    with OpenFile(tensor.path) as file:
        for first in range(0, n_rows, step):
            rows = min(step, n_rows - first)
            data = file.read(begin + first * row_bytes, rows * row_bytes)
            yield dequantize(np.reshape(data, (rows, row_bytes)), tensor.type)
