"""An adapter, understood: for each canonical matrix the two factors of what is added to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from madang.core.errors import AdapterMismatch, MalformedFile
from madang.formats.spec import ModelDescription

Floats = npt.NDArray[np.float32]
MAX_RANK: Final = 1024


class LowRank(NamedTuple):
    """What is added to a weight, ``b @ a``: a is [rank, n_in]; b is [n_out, rank], the adapter's own scale included."""

    a: Floats
    b: Floats


@dataclass(frozen=True, slots=True)
class AdapterDescription:
    """``matrices`` by canonical name; ``rank`` is the largest of their ranks."""

    name: str
    matrices: Mapping[str, LowRank]

    @property
    def rank(self) -> int:
        """Rows of the largest A."""
        return max(len(matrix.a) for matrix in self.matrices.values())

    @property
    def size_bytes(self) -> int:
        """Memory of all factors."""
        return sum(matrix.a.nbytes + matrix.b.nbytes for matrix in self.matrices.values())


@dataclass(frozen=True, slots=True)
class FilePair:
    """One changed module as its file has it.

    module            the name that the file gives it
    parts             canonical names; several when the file's module is a fusion of them, one below the other
    rows_interleaved  whether the rows of queries and keys are permuted as in GGUF files of Llama
    """

    module: str
    parts: tuple[str, ...]
    low_rank: LowRank
    rows_interleaved: bool


def fit(name: str, path: Path, pairs: Iterator[FilePair], model: ModelDescription) -> AdapterDescription:
    """The adapter in the form of ``model``. Raises AdapterMismatch, MalformedFile."""
    matrices: dict[str, LowRank] = {}
    for pair in pairs:
        for part, matrix in _split(name, path, pair, model):
            if part in matrices:
                raise MalformedFile(path, f"it changes '{part}' twice")
            matrices[part] = matrix
    if not matrices:
        raise MalformedFile(path, "it changes nothing")
    return AdapterDescription(name, matrices)


def _split(name: str, path: Path, pair: FilePair, model: ModelDescription) -> Iterator[tuple[str, LowRank]]:
    a, b = pair.low_rank
    if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1] or not 0 < len(a) <= MAX_RANK:
        raise MalformedFile(
            path, f"the factors of '{pair.module}' are {_shape(a)} and {_shape(b)}, of rank 1 to {MAX_RANK} at most"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MalformedFile(path, f"the factors of '{pair.module}' have values that are no finite numbers")
    missing = [part for part in pair.parts if part not in model.tensors]
    if missing:
        raise AdapterMismatch(name, pair.module, f"the model has no matrix '{missing[0]}'")
    sizes = [model.tensors[part].shape for part in pair.parts]
    expected = (sum(rows for rows, _ in sizes), sizes[0][1])
    if (len(b), a.shape[1]) != expected:
        raise AdapterMismatch(
            name, pair.module, f"it is for a matrix of {len(b)} x {a.shape[1]}, and the model's is {_by(expected)}"
        )
    begin = 0
    for part, (n_rows, _) in zip(pair.parts, sizes, strict=True):
        rows = _in_row_order(b[begin : begin + n_rows], part, pair, model)
        yield part, LowRank(a, np.ascontiguousarray(rows))
        begin += n_rows


def _in_row_order(b: Floats, part: str, pair: FilePair, model: ModelDescription) -> Floats:
    """Rows of queries and keys, in the order in which the model's own are: halves of a head, or pairs side by side."""
    layer, _, kind = part.partition(".")
    if kind not in ("query", "key"):
        return b
    rope = model.spec.ropes[int(layer)]
    wants_interleaved = rope is not None and rope.layout == "interleaved"
    if wants_interleaved == pair.rows_interleaved:
        return b
    n_heads = model.spec.n_heads if kind == "query" else model.spec.n_kv_heads
    half = model.spec.head_dim // 2
    shape = (n_heads, 2, half, -1) if wants_interleaved else (n_heads, half, 2, -1)
    return b.reshape(shape).swapaxes(1, 2).reshape(b.shape)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _shape(array: Floats) -> str:
    return _by(array.shape)
