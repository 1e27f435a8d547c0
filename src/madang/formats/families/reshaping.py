"""Tensors that a file holds in another form than the canonical one, and the way back. Rows are outputs, columns inputs.

All of them check the shape that they cut up, because nobody has done so before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.errors import GGUF_ENGINE, MalformedFile, UnsupportedModel
from madang.formats.families.names import Matrix, Reshaped, Shape
from madang.formats.tensors import DerivedTensor, Octets, TensorInfo, TensorSource, TensorType, rows_of

_NUMBERS: Final[Mapping[TensorType, np.dtype[Any]]] = {
    TensorType.F32: np.dtype("<f4"),
    TensorType.F16: np.dtype("<f2"),
    TensorType.BF16: np.dtype("<u2"),  # moved, never computed with
    TensorType.F64: np.dtype("<f8"),
}


def fused(rows: Mapping[str, int]) -> Reshaped:
    """Several matrices (or their biases) one below the other."""

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        _require_shape(tensor, 0, sum(rows.values()))
        if len(tensor.shape) == 1:
            _numbers(tensor)
        cuts = pairwise(accumulate(rows.values(), initial=0))
        return {part: rows_of(tensor, *cut) for part, cut in zip(rows, cuts, strict=True)}

    return Reshaped(tuple(rows), split, np.concatenate, _stacked_shape, plain=True)


def transposed(rows: Mapping[str, int]) -> Reshaped:
    """The same with inputs as rows, as GPT-2's Conv1D keeps them."""

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        if len(tensor.shape) == 1:
            return fused(rows).split(tensor)
        _require_shape(tensor, 1, sum(rows.values()))
        dtype = _numbers(tensor)
        made: dict[str, TensorSource] = {}
        for part, (begin, end) in zip(rows, pairwise(accumulate(rows.values(), initial=0)), strict=True):

            def make(data: Octets, begin: int = begin, end: int = end) -> npt.NDArray[Any]:
                return np.ascontiguousarray(data.view(dtype).reshape(tensor.shape)[:, begin:end].T)

            made[part] = DerivedTensor(tensor.name, tensor.type, (end - begin, tensor.shape[0]), tensor, make)
        return made

    def join(parts: Sequence[Matrix]) -> Matrix:
        return np.concatenate(parts).T

    def shape(shapes: Sequence[Shape]) -> Shape:
        return _stacked_shape(shapes)[::-1]

    return Reshaped(tuple(rows), split, join, shape)


def grouped(n_heads: int, n_kv_heads: int, head_dim: int) -> Reshaped:
    """Falcon's fusion: for each key-value head its queries, then its key, then its value."""
    n_shared = n_heads // n_kv_heads

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        _require_shape(tensor, 0, (n_heads + 2 * n_kv_heads) * head_dim)
        if n_kv_heads == 1:
            return fused({"query": n_heads * head_dim, "key": head_dim, "value": head_dim}).split(tensor)
        groups = (n_kv_heads, n_shared + 2, head_dim)
        chosen = {"query": (0, n_shared), "key": (n_shared, n_shared + 1), "value": (n_shared + 1, n_shared + 2)}
        return {part: _picked(tensor, groups, place) for part, place in chosen.items()}

    def join(parts: Sequence[Matrix]) -> Matrix:
        heads = [part.reshape(n_kv_heads, -1, head_dim, *part.shape[1:]) for part in parts]
        return np.concatenate(heads, axis=1).reshape(-1, *parts[0].shape[1:])

    return Reshaped(("query", "key", "value"), split, join, _stacked_shape)


def _picked(tensor: TensorInfo, groups: tuple[int, int, int], chosen: tuple[int, int]) -> DerivedTensor:
    dtype = _numbers(tensor)
    n_groups, _, head_dim = groups
    begin, end = chosen
    shape = (n_groups * (end - begin) * head_dim, *tensor.shape[1:])

    def make(data: Octets) -> npt.NDArray[Any]:
        heads = data.view(dtype).reshape(*groups, *tensor.shape[1:])
        return np.ascontiguousarray(heads[:, begin:end]).reshape(shape)

    return DerivedTensor(tensor.name, tensor.type, shape, tensor, make)


def plus_one(part: str) -> Reshaped:
    """A norm whose weights are kept as their distance from one (Gemma)."""

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        dtype = _numbers(tensor)

        def make(data: Octets) -> npt.NDArray[Any]:
            stored = data.view(dtype)
            if tensor.type == TensorType.BF16:
                stored = (stored.astype("<u4") << 16).view("<f4")
            return stored.astype("<f4") + np.float32(1)

        return {part: DerivedTensor(tensor.name, TensorType.F32, tensor.shape, tensor, make)}

    return Reshaped((part,), split, lambda parts: parts[0] - np.float32(1), lambda shapes: shapes[0])


def stacked(tensors: Sequence[TensorInfo]) -> DerivedTensor:
    """Small vectors of one file as rows of a matrix."""
    first = tensors[0]
    dtype = _numbers(first)
    alike = {(tensor.shape, tensor.type, tensor.path) for tensor in tensors}
    if len(alike) != 1:
        raise MalformedFile(
            first.path, f"the tensors of '{first.name}' and its neighbours differ or lie in other files"
        )
    begin = min(tensor.file_range[0] for tensor in tensors)
    end = max(tensor.file_range[1] for tensor in tensors)
    span = TensorInfo(first.name, TensorType.I8, (end - begin,), first.path, begin)
    places = [(tensor.file_range[0] - begin, tensor.file_range[1] - begin) for tensor in tensors]

    def make(data: Octets) -> npt.NDArray[Any]:
        return np.concatenate([data[slice(*place)] for place in places]).view(dtype)

    return DerivedTensor(first.name, first.type, (len(tensors), *first.shape), span, make)


def each_expert(part: str, n_experts: int) -> Reshaped:
    """A matrix per expert, all in one tensor of three dimensions."""
    names = tuple(f"expert.{number}.{part}" for number in range(n_experts))

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        _require_shape(tensor, 0, n_experts)
        shape = tensor.shape[1:]
        return {name: rows_of(tensor, number, number + 1, shape) for number, name in enumerate(names)}

    return Reshaped(names, split, np.stack, lambda shapes: (n_experts, *shapes[0]), plain=True)


def part_of(part: str, begin: int, end: int | None = None) -> Reshaped:
    """Some rows only; to the last where no end is given. The way back has zeros before them and nothing behind."""

    def split(tensor: TensorInfo) -> Mapping[str, TensorSource]:
        last = tensor.shape[0] if end is None else end
        if not begin < last <= tensor.shape[0]:
            raise MalformedFile(tensor.path, f"the tensor '{tensor.name}' has {tensor.shape[0]} rows")
        return {part: rows_of(tensor, begin, last)}

    def join(parts: Sequence[Matrix]) -> Matrix:
        return np.pad(parts[0], ((begin, 0), (0, 0)))

    return Reshaped((part,), split, join, lambda shapes: (begin + shapes[0][0], *shapes[0][1:]))


def _stacked_shape(shapes: Sequence[Shape]) -> Shape:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _require_shape(tensor: TensorInfo, dimension: int, size: int) -> None:
    if dimension >= len(tensor.shape) or tensor.shape[dimension] != size:
        shape = " x ".join(map(str, tensor.shape))
        kind = ("rows", "columns")[dimension]
        raise MalformedFile(tensor.path, f"the tensor '{tensor.name}' is {shape}, expected {size} {kind}")


def _numbers(tensor: TensorInfo) -> np.dtype[Any]:
    dtype = _NUMBERS.get(tensor.type)
    if dtype is None:
        raise UnsupportedModel(
            f"the tensor '{tensor.name}' of {tensor.path.name} as {tensor.type.name}", runs_with=GGUF_ENGINE
        )
    return dtype
