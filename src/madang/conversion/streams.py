"""Tensors on their way from one file into another: read, put together, permuted, encoded, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from madang.formats.families.forms import PlacedTensor
from madang.formats.gguf_writing import TensorToWrite, read_chunks
from madang.formats.reading import OpenFile
from madang.formats.spec import DecoderSpec
from madang.formats.tensors import DerivedTensor, Octets, TensorInfo, TensorSource, TensorType
from madang.quantization.encoding import Matrix, dequantize, quantize

# Of float32 values in memory at once, where a tensor can be taken in parts.
CHUNK_BYTES: Final = 64 * 2**20

Order = Literal["interleave", "separate"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What happens to the tensors of one model.

    order   what the rows of query and key need, so that pairs lie as the target has them; None where they do already
    """

    spec: DecoderSpec
    tensors: Mapping[str, TensorSource]
    order: Order | None
    n_threads: int

    def write(self, placed: PlacedTensor, tensor_type: TensorType) -> TensorToWrite:
        """A tensor of the target, whose data comes when it is asked for."""
        return TensorToWrite(placed.name, tensor_type, self.shape(placed), lambda: self._chunks(placed, tensor_type))

    def shape(self, placed: PlacedTensor) -> tuple[int, ...]:
        """Its shape in the target."""
        shapes = [self.tensors[part].shape for part in placed.parts]
        return shapes[0] if placed.reshaped is None else placed.reshaped.shape(shapes)

    def _chunks(self, placed: PlacedTensor, tensor_type: TensorType) -> Iterator[Octets]:
        if placed.reshaped is None or placed.reshaped.plain:
            for part in placed.parts:
                yield from self._part(part, tensor_type)
            return
        whole = placed.reshaped.join([self._permuted(part, values_of(self.tensors[part])) for part in placed.parts])
        yield from self._encoded(np.ascontiguousarray(whole), tensor_type)

    def _part(self, part: str, tensor_type: TensorType) -> Iterator[Octets]:
        source = self.tensors[part]
        permutes = self.order is not None and _n_heads(self.spec, part) is not None
        if isinstance(source, TensorInfo) and source.type == tensor_type and not permutes:
            yield from read_chunks(source)
            return
        if permutes or not isinstance(source, TensorInfo):
            yield from self._encoded(self._permuted(part, values_of(source)), tensor_type)
            return
        for rows in _row_slices(source):
            yield from self._encoded(values_of(rows), tensor_type)

    def _encoded(self, values: Matrix, tensor_type: TensorType) -> Iterator[Octets]:
        rows = values.reshape(1, -1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
        step = max(CHUNK_BYTES // (4 * rows.shape[1]), 1)
        for begin in range(0, len(rows), step):
            yield quantize(rows[begin : begin + step], tensor_type, n_threads=self.n_threads)

    def _permuted(self, part: str, values: Matrix) -> Matrix:
        return permuted_rows(self.spec, self.order, part, values)


def permuted_rows(spec: DecoderSpec, order: Order | None, part: str, values: Matrix) -> Matrix:
    """The rows of a canonical tensor as ``order`` wants them; only those of query and key ever move."""
    n_heads = _n_heads(spec, part)
    if order is None or n_heads is None:
        return values
    half = len(values) // n_heads // 2
    groups = (n_heads, 2, half) if order == "interleave" else (n_heads, half, 2)
    return np.ascontiguousarray(values.reshape(*groups, *values.shape[1:]).swapaxes(1, 2)).reshape(values.shape)


def _n_heads(spec: DecoderSpec, part: str) -> int | None:
    """How many heads the rows of query or key belong to; None for others."""
    return {"query": spec.n_heads, "key": spec.n_kv_heads}.get(part.partition(".")[2].removesuffix(".bias"))


def row_order(spec: DecoderSpec, *, interleaved: bool) -> Order | None:
    """What rows of query and key need to become ``interleaved``, or not to be."""
    layouts = {rope.layout for rope in spec.ropes if rope is not None}
    if interleaved and "half" in layouts:
        return "interleave"
    return "separate" if not interleaved and "interleaved" in layouts else None


def values_of(source: TensorSource) -> Matrix:
    """All values of a tensor in its shape. Raises what reading its file raises, and CannotQuantize."""
    begin, end = source.file_range
    with OpenFile(source.path) as file:
        data = file.read(begin, end - begin)
    if isinstance(source, DerivedTensor):
        made: npt.NDArray[Any] = np.ascontiguousarray(source.make(data))
        data = made.view(np.uint8).reshape(-1)
    if source.type == TensorType.F64:
        return data.view("<f8").astype(np.float32).reshape(source.shape)
    n_rows = prod(source.shape[:-1])
    return dequantize(data.reshape(n_rows, -1), source.type).reshape(source.shape)


def _row_slices(tensor: TensorInfo) -> Sequence[TensorInfo]:
    """The tensor in parts of at most CHUNK_BYTES of float32."""
    if len(tensor.shape) == 1:
        return [tensor]
    n_rows, n_columns = prod(tensor.shape[:-1]), tensor.shape[-1]
    row_bytes = tensor.size_bytes // n_rows
    step = max(CHUNK_BYTES // (4 * n_columns), 1)
    return [
        TensorInfo(
            tensor.name,
            tensor.type,
            (min(step, n_rows - begin), n_columns),
            tensor.path,
            tensor.offset_bytes + begin * row_bytes,
        )
        for begin in range(0, n_rows, step)
    ]
