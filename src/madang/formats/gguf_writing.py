"""Writes GGUF files, version 3 of the format in gguf.py: whole, read back and renamed into place, or not at all.

Tensor data streams through: one chunk of what a tensor's ``data`` gives is in memory at a time.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest, MalformedFile, ModelError
from madang.core.progress import Progress, SilentProgress
from madang.core.writing import free_disk_bytes, replacing, require_disk, sync, within_disk
from madang.formats.gguf import ARRAY, BOOL, MAX_DIMS, MAX_KEY_BYTES, MAX_TENSOR_NAME_BYTES, SCALARS, STRING, read_gguf
from madang.formats.metadata import MetadataValue
from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorInfo, TensorType

DEFAULT_ALIGNMENT: Final = 32
READ_BYTES: Final = 8 * 2**20

_ID_OF_NUMBER: Final[Mapping[str, int]] = {
    np.dtype(code).str[1:]: number for number, code in SCALARS.items() if number != BOOL
} | {"b1": BOOL}

Chunk: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]
# A numpy scalar is written with its own type; a Python number with the usual one (float32, uint32 or one that it fits).
ValueToWrite: TypeAlias = MetadataValue | np.generic


@dataclass(frozen=True, slots=True)
class TensorToWrite:
    """One tensor of a file to be.

    shape   row-major, as in :class:`TensorInfo`
    data    called once, when its turn comes: all its bytes, or pieces of them in order
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    data: Callable[[], Chunk | Iterable[Chunk]]

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) // self.type.block_elements * self.type.block_bytes


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file in its place, and the checksum that was read back from it."""

    path: Path
    size_bytes: int
    sha256: str


def copied_tensor(tensor: TensorInfo, name: str | None = None) -> TensorToWrite:
    """A tensor as it lies in another file, under its own or another name."""
    return TensorToWrite(name or tensor.name, tensor.type, tensor.shape, lambda: read_chunks(tensor))


def read_chunks(tensor: TensorInfo, chunk_bytes: int = READ_BYTES) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of a tensor, at most ``chunk_bytes`` at a time. Raises what :class:`OpenFile` raises."""
    begin, end = tensor.file_range
    with OpenFile(tensor.path) as file:
        for start in range(begin, end, chunk_bytes):
            yield file.read(start, min(chunk_bytes, end - start))


def gguf_bytes(metadata: Mapping[str, ValueToWrite], tensors: Iterable[TensorToWrite]) -> int:
    """Bytes of the file that ``write_gguf`` would make; no ``data`` is called. Raises InvalidRequest as that does."""
    return _Layout.of(metadata, list(tensors)).size_bytes


def write_gguf(
    path: Path,
    metadata: Mapping[str, ValueToWrite],
    tensors: Iterable[TensorToWrite],
    *,
    progress: Progress | None = None,
    free_bytes: Callable[[Path], int] = free_disk_bytes,
) -> WrittenFile:
    """Write a GGUF file; ``path`` is what it was before until all of the new one has been read back and found right.

    The alignment is ``general.alignment`` of the metadata, 32 without it. ``progress`` is told the bytes written.
    Raises InvalidRequest for a tensor or a key that the format cannot hold, NotEnoughDisk (before anything is written,
    or when the disk runs full meanwhile), MalformedFile when the disk gives back something else, ModelError when the
    system refuses to write, and what ``data`` of a tensor raises.
    """
    layout = _Layout.of(metadata, list(tensors))
    require_disk(path.parent, layout.size_bytes, free_bytes)
    progress = progress or SilentProgress()
    progress.started(layout.size_bytes)
    try:
        with within_disk(path.parent, layout.size_bytes), replacing(path) as temporary:
            with temporary.open("xb") as file:
                sha256 = layout.write(file, progress)
            sync(temporary)
            _verify(path, temporary, layout, sha256)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}.", hint="Choose another place for it.") from error
    progress.finished()
    return WrittenFile(path, layout.size_bytes, sha256)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The header, and where each tensor begins in the file."""

    header: bytes
    tensors: Sequence[TensorToWrite]
    begins: Sequence[int]
    size_bytes: int

    @classmethod
    def of(cls, metadata: Mapping[str, ValueToWrite], tensors: Sequence[TensorToWrite]) -> _Layout:
        """Arrange everything. Raises InvalidRequest."""
        alignment = _alignment(metadata)
        _require_unique(tensors)
        header = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            _require_name(key, "metadata key", MAX_KEY_BYTES)
            header += _string(key) + _value(key, value)
        offset_bytes = 0
        begins: list[int] = []
        for tensor in tensors:
            header += _table_row(tensor, offset_bytes)
            begins.append(offset_bytes)
            offset_bytes = _aligned(offset_bytes + tensor.size_bytes, alignment)
        header += bytes(_aligned(len(header), alignment) - len(header))
        # The last tensor is padded too: llama.cpp counts on whole multiples.
        return cls(bytes(header), tensors, [len(header) + begin for begin in begins], len(header) + offset_bytes)

    def write(self, file: IO[bytes], progress: Progress) -> str:
        """Write all of it in order, and return its SHA-256."""
        digest = hashlib.sha256()

        def put(piece: bytes | memoryview) -> None:
            file.write(piece)
            digest.update(piece)
            progress.advanced(len(piece))

        put(self.header)
        ends = [*self.begins, self.size_bytes][1:]
        for tensor, begin, end in zip(self.tensors, self.begins, ends, strict=True):
            for piece in pieces_of(tensor):
                put(piece)
            put(bytes(end - begin - tensor.size_bytes))
        return digest.hexdigest()


def _verify(path: Path, temporary: Path, layout: _Layout, sha256: str) -> None:
    """Read the file again, as a reader would and byte by byte."""
    found = read_gguf(temporary).tensors
    for tensor, begin in zip(layout.tensors, layout.begins, strict=True):
        info = found[tensor.name]
        if (info.type, info.shape, info.offset_bytes) != (tensor.type, tensor.shape, begin):
            raise MalformedFile(path, f"tensor '{tensor.name}' was read back as {info.type.name} {info.shape}")
    digest = hashlib.sha256()
    with OpenFile(temporary) as file:
        for start in range(0, file.size_bytes, READ_BYTES):
            digest.update(file.read(start, min(READ_BYTES, file.size_bytes - start)).data)
    if digest.hexdigest() != sha256:
        raise MalformedFile(
            path, "what was read back is not what was written", hint="Check the disk; nothing was kept."
        )


def pieces_of(tensor: TensorToWrite) -> Iterator[memoryview]:
    """All bytes of a tensor, in pieces. Raises ValueError when it gives more or fewer than it has."""
    left = tensor.size_bytes
    data = tensor.data()
    for chunk in [data] if isinstance(data, bytes | bytearray | memoryview | np.ndarray) else data:
        piece = np.ascontiguousarray(chunk).data if isinstance(chunk, np.ndarray) else memoryview(chunk)
        left -= piece.nbytes
        if left < 0:
            break
        if piece.nbytes:
            yield piece.cast("B")
    if left:
        raise ValueError(f"tensor '{tensor.name}' gave {tensor.size_bytes - left} of {tensor.size_bytes} bytes")


def _alignment(metadata: Mapping[str, ValueToWrite]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int | np.integer) or alignment < 8 or int(alignment).bit_count() != 1:
        raise InvalidRequest(f"'general.alignment' is {alignment}, but must be a power of two from 8 on.")
    return int(alignment)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _require_unique(tensors: Sequence[TensorToWrite]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        _require_name(tensor.name, "tensor name", MAX_TENSOR_NAME_BYTES)
        if tensor.name in seen:
            raise InvalidRequest(f"Two tensors have the name '{tensor.name}'.")
        seen.add(tensor.name)


def _require_name(name: str, kind: str, limit_bytes: int) -> None:
    if not 0 < len(name.encode()) <= limit_bytes or not name.isprintable():
        raise InvalidRequest(f"The {kind} {name[:100]!r} is not 1 to {limit_bytes} bytes of printable text.")


def _table_row(tensor: TensorToWrite, offset_bytes: int) -> bytes:
    n_columns = tensor.shape[-1] if tensor.shape else 0
    if not 1 <= len(tensor.shape) <= MAX_DIMS or 0 in tensor.shape:
        raise InvalidRequest(f"Tensor '{tensor.name}' has the shape {tensor.shape}; GGUF takes 1 to {MAX_DIMS} sizes.")
    if n_columns % tensor.type.block_elements:
        raise InvalidRequest(
            f"Tensor '{tensor.name}' has rows of {n_columns} elements, which are no whole blocks of "
            f"{tensor.type.name} ({tensor.type.block_elements} elements each)."
        )
    dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return _string(tensor.name) + dims + struct.pack("<IQ", tensor.type, offset_bytes)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: ValueToWrite) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    if isinstance(value, np.ndarray):
        if value.ndim != 1:
            raise InvalidRequest(f"Metadata '{key}' is an array of {value.ndim} dimensions; GGUF takes one.")
        return struct.pack("<IIQ", ARRAY, _id_of(key, value.dtype), len(value)) + _little(value)
    number = value if isinstance(value, np.generic) else _usual(key, value)
    return struct.pack("<I", _id_of(key, number.dtype)) + _little(np.array([number]))


def _usual(key: str, value: bool | int | float) -> np.generic:
    """The type that most files use for such a number."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, float):
        return np.float32(value)
    for dtype in (np.uint32, np.int32, np.uint64, np.int64):
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return dtype(value)
    raise InvalidRequest(f"Metadata '{key}' is {value}, which no 64 bits hold.")


def _id_of(key: str, dtype: np.dtype[Any]) -> int:
    number = _ID_OF_NUMBER.get(dtype.str[1:])
    if number is None:
        raise InvalidRequest(f"Metadata '{key}' holds {dtype.name}, which GGUF has no type for.")
    return number


def _little(values: npt.NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
