"""What an error costs in each column of each matrix: the mean square of the input that the column is multiplied with.

Measured by reading a text, kept in the files of llama.cpp's imatrix tool: GGUF (``<tensor>.in_sum2`` and
``<tensor>.counts``), and read from its older .dat files, too. Names are the model file's. A tied embedding counts as
the output matrix.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile
from madang.formats.gguf import read_gguf
from madang.formats.gguf_writing import TensorToWrite, write_gguf
from madang.formats.reading import OpenFile
from madang.formats.spec import ModelDescription
from madang.formats.tensors import DerivedTensor, TensorInfo, TensorType
from madang.native import Inputs, MutableModel

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_FLOOR: Final = 0.3
_MAX_ENTRIES: Final = 65_536
_MAX_NAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """Of a model, measured on some chunks of text.

    mean_squares   by tensor name, float32 [n_columns]; of experts [n_experts, n_columns], 0 where one was never taken
    counts         by tensor name, the tokens that were read: int64 [1] or [n_experts]
    """

    mean_squares: Mapping[str, Floats]
    counts: Mapping[str, npt.NDArray[np.int64]]
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0
    chunk_tokens: int = 0


@dataclass(slots=True, eq=False)
class _Sums:
    squares: Doubles
    counts: npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Grams:
    """E[x xᵀ] of what is read, by canonical name: float32 [n_columns, n_columns], one array for those alike."""

    at_most_columns: int | None = None
    at_most_bytes: int | None = None
    by_name: dict[str, Floats] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, names: Sequence[str], rows: Floats) -> None:
        """Take in rows, [n, n_columns], that all of the named matrices read."""
        first = names[0]
        if first not in self.by_name and not self._has_room(rows.shape[1]):
            return
        total = self._counts.get(first, 0) + len(rows)
        gram = self.by_name.get(first)
        if gram is None:
            gram = np.zeros((rows.shape[1], rows.shape[1]), np.float32)
            self.by_name.update(dict.fromkeys(names, gram))
        gram *= (total - len(rows)) / total
        gram += (rows.T @ rows) / np.float32(total)
        self._counts[first] = total

    def _has_room(self, n_columns: int) -> bool:
        held_bytes = sum(self.by_name[first].nbytes for first in self._counts)
        return (self.at_most_columns is None or n_columns <= self.at_most_columns) and (
            self.at_most_bytes is None or held_bytes + 4 * n_columns**2 <= self.at_most_bytes
        )

    def save(self, folder: Path) -> None:
        """Each array once, in a file named after the first matrix that has it."""
        first: dict[int, str] = {}
        for name, gram in self.by_name.items():
            if id(gram) not in first:
                first[id(gram)] = name
                np.save(folder / f"{name}.npy", gram)
        readers = {name: first[id(gram)] for name, gram in self.by_name.items()}
        (folder / "readers.json").write_text(json.dumps(readers), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Mapping[str, Floats]:
        """What ``save`` wrote, by canonical name; read when it is looked at."""
        readers: dict[str, str] = json.loads((folder / "readers.json").read_text(encoding="utf-8"))
        files = {first: np.load(folder / f"{first}.npy", mmap_mode="r") for first in set(readers.values())}
        return {name: files[first] for name, first in readers.items()}


def measure_importance(
    model: MutableModel,
    chunks: Sequence[Sequence[int]],
    *,
    dataset: str = "",
    grams: Grams | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Importance:
    """Read the chunks and sum up. ``grams`` are filled in the same pass, where they are wanted.

    progress   is told the chunks that are done, and all
    """
    sums: dict[str, _Sums] = {}
    places = _places(model.description)
    for number, chunk in enumerate(chunks):
        _add(sums, places, model.read_inputs(chunk), grams)
        progress(number + 1, len(chunks))
    return Importance(
        {name: _mean(own) for name, own in sums.items()},
        {name: own.counts for name, own in sums.items()},
        (dataset,) if dataset else (),
        len(chunks),
        max(map(len, chunks), default=0),
    )


def _add(sums: dict[str, _Sums], places: Mapping[str, _Place], inputs: Inputs, grams: Grams | None) -> None:
    for names, rows in inputs:
        squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        for tensor, expert, n_experts in dict.fromkeys(places[name] for name in names if name in places):
            own = sums.get(tensor)
            if own is None:
                own = sums[tensor] = _Sums(np.zeros((n_experts, rows.shape[1])), np.zeros(n_experts, np.int64))
            own.squares[expert] += squares
            own.counts[expert] += len(rows)
        if grams is not None:
            grams.add(names, rows)


_Place = tuple[str, int, int]  # the file's tensor, which of its experts, and how many it has


def _places(description: ModelDescription) -> dict[str, _Place]:
    """Where in the file each canonical matrix comes from."""
    n_experts = 1 if description.spec.experts is None else description.spec.experts.n_experts
    found: dict[str, _Place] = {}
    for name, tensor in description.tensors.items():
        source = tensor.base if isinstance(tensor, DerivedTensor) else tensor
        parts = name.split(".")
        if ".expert." in name and "exps" in source.name:
            found[name] = (source.name, int(parts[2]), n_experts)
        else:
            found[name] = (source.name, 0, 1)
    return found


def _mean(own: _Sums) -> Floats:
    means = (own.squares / np.maximum(own.counts, 1)[:, None]).astype(np.float32)
    single: Floats = means[0] if len(means) == 1 else means
    return single


def with_floor(mean_squares: Floats) -> Floats:
    """The same with a part of their mean added to all: columns that a text does not use may matter to another.

    [n_columns] or [n_experts, n_columns], each for itself. Figures: docs/decisions/0017-budget.md
    """
    raised: Floats = mean_squares + np.float32(_FLOOR) * mean_squares.mean(axis=-1, keepdims=True)
    return raised


# ---- files


def write_importance(path: Path, importance: Importance) -> None:
    """Write llama.cpp's GGUF form. Raises what ``write_gguf`` raises."""
    metadata: dict[str, Any] = {
        "general.type": "imatrix",
        "imatrix.datasets": list(importance.datasets),
        "imatrix.chunk_count": np.uint32(importance.n_chunks),
        "imatrix.chunk_size": np.uint32(importance.chunk_tokens),
    }
    write_gguf(path, metadata, list(_tensors(importance)))


def _tensors(importance: Importance) -> Iterator[TensorToWrite]:
    for name, means in importance.mean_squares.items():
        counts = importance.counts[name].astype(np.float32)[:, None]
        sums = np.ascontiguousarray(np.atleast_2d(means) * counts, np.float32)
        for suffix, values in ((_SUMS, sums), (_COUNTS, counts)):
            yield TensorToWrite(name + suffix, TensorType.F32, values.shape, partial(_bytes_of, values))


def _bytes_of(values: Floats) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1)


def read_importance(path: Path) -> Importance:
    """Read either form. Raises ModelNotFound, MalformedFile."""
    with OpenFile(path) as file:
        is_gguf = file.size_bytes >= 4 and bytes(file.read(0, 4)) == b"GGUF"
        if not is_gguf:
            return _read_legacy(path, bytes(file.read(0, file.size_bytes)))
    header = read_gguf(path)
    if header.get_str("general.type", "") != "imatrix":
        raise MalformedFile(path, "it is no importance matrix: 'general.type' is not 'imatrix'", hint=_MAKE_ONE)
    means, counts = {}, {}
    with OpenFile(path) as file:
        for name, tensor in header.tensors.items():
            if not name.endswith(_SUMS):
                continue
            stem = name.removesuffix(_SUMS)
            count = header.tensors.get(stem + _COUNTS)
            if count is None:
                raise MalformedFile(path, f"'{name}' has no counts beside it", hint=_MAKE_ONE)
            sums, n_read = _floats(file, tensor), _floats(file, count).reshape(-1)
            rows = sums.reshape(len(n_read), -1) if sums.size % len(n_read) == 0 else None
            if rows is None:
                raise MalformedFile(path, f"'{name}' and its counts do not belong together", hint=_MAKE_ONE)
            _check(path, stem, rows)
            means[stem] = _squeezed(rows / np.maximum(n_read, 1)[:, None])
            counts[stem] = n_read.astype(np.int64)
    return Importance(
        means,
        counts,
        tuple(header.get_strs("imatrix.datasets", [])),
        header.get_int("imatrix.chunk_count", 0),
        header.get_int("imatrix.chunk_size", 0),
    )


_MAKE_ONE: Final = "Make one with 'madang importance MODEL TEXT -o FILE'."


def _floats(file: OpenFile, tensor: TensorInfo) -> Floats:
    if tensor.type is not TensorType.F32:
        raise MalformedFile(file.path, f"'{tensor.name}' is {tensor.type.name}, expected F32", hint=_MAKE_ONE)
    begin, end = tensor.file_range
    return file.read(begin, end - begin).view("<f4").reshape(tensor.shape)


def _squeezed(rows: npt.NDArray[Any]) -> Floats:
    own: Floats = np.ascontiguousarray(rows[0] if len(rows) == 1 else rows, np.float32)
    return own


def _check(path: Path, name: str, rows: npt.NDArray[Any]) -> None:
    if not np.isfinite(rows).all() or rows.min(initial=0) < 0:
        raise MalformedFile(path, f"the importance of '{name}' has negative or infinite values", hint=_MAKE_ONE)


def _read_legacy(path: Path, data: bytes) -> Importance:
    """entries i32 · per entry: name length i32, name, calls i32, values i32, float32[values] = mean square x calls."""
    at = 0

    def number() -> int:
        nonlocal at
        at += 4
        if at > len(data):
            raise MalformedFile(path, "it ends inside an entry, or is no importance matrix", hint=_MAKE_ONE)
        return int(struct.unpack_from("<i", data, at - 4)[0])

    def take(n_bytes: int) -> bytes:
        nonlocal at
        if not 0 <= n_bytes <= len(data) - at:
            raise MalformedFile(path, "it ends inside an entry, or is no importance matrix", hint=_MAKE_ONE)
        at += n_bytes
        return data[at - n_bytes : at]

    n_entries = number()
    if not 0 < n_entries <= _MAX_ENTRIES:
        raise MalformedFile(path, "it is no importance matrix", hint=_MAKE_ONE)
    means, counts = {}, {}
    for _ in range(n_entries):
        n_bytes = number()
        if not 0 < n_bytes <= _MAX_NAME_BYTES:
            raise MalformedFile(path, "it is no importance matrix", hint=_MAKE_ONE)
        name = take(n_bytes).decode("utf-8", "replace")
        n_calls, n_values = max(number(), 1), number()
        values = np.frombuffer(take(4 * max(n_values, 0)), "<f4")
        _check(path, name, values)
        means[name] = (values / n_calls).astype(np.float32)
        counts[name] = np.array([n_calls], np.int64)
    n_chunks = number() if at < len(data) else 0
    dataset = take(number()).decode("utf-8", "replace") if at < len(data) else ""
    return Importance(means, counts, (dataset,) if dataset else (), n_chunks)
