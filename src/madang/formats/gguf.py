"""The header of a GGUF file: metadata, and where each tensor lies. Tensor data is never touched.

Format: the GGUF specification (ggml-org/ggml, docs/gguf.md), versions 2 and 3, little-endian.

    magic "GGUF" · version u32 · number of tensors u64 · number of metadata pairs u64
    metadata    key · type u32 · value      (a string is length u64 + UTF-8, an array is type u32 + count u64 + items)
    tensors     name · n_dims u32 · dims u64 (fastest first) · type u32 · offset u64 into the data section
    padding to general.alignment, then the data section

A file is hostile until shown otherwise: every count, length and offset is compared with the size of the file before
anything is read, allocated or computed from it. Python's integers do not overflow, so sums and products are exact.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.core.units import format_bytes
from madang.formats.metadata import CheckedMetadata, MetadataValue
from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorInfo, TensorType

# Far above any real file, and low enough that a hostile one is cheap to refuse.
MAX_HEADER_BYTES: Final = 256 * 2**20
_FIRST_BYTES: Final = 2**20
MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 65_536
MAX_ALIGNMENT: Final = 65_536
# The specification's own limits.
MAX_KEY_BYTES: Final = 65_535
MAX_TENSOR_NAME_BYTES: Final = 64
MAX_DIMS: Final = 4
MAX_ELEMENTS: Final = 2**63 - 1

BOOL, STRING, ARRAY = 7, 8, 9
SCALARS: Final[Mapping[int, str]] = MappingProxyType(
    {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", BOOL: "<B", 10: "<Q", 11: "<q", 12: "<d"}
)
_LENGTH_BYTES: Final = 8
_unpack_length = struct.Struct("<Q").unpack_from

# What people open by mistake, told by its first bytes.
_MISTAKEN: Final = (
    (b"version https://git-lfs", "it is a Git LFS pointer, the model itself was never downloaded"),
    (b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch checkpoint"),
    (b"lmgg", "it is in the GGML format that came before GGUF"),
    (b"tjgg", "it is in the GGML format that came before GGUF"),
    (b"<", "it looks like a web page"),
)
# Types that tensors.py does not list, but that a person may know by name.
_UNLISTED_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 40: "NVFP4", 41: "Q1_0"}
)


@dataclass(frozen=True, slots=True, eq=False)
class GGUFFile(CheckedMetadata):
    """A checked header. In ``metadata``, arrays are read-only numpy arrays, or lists when they hold strings.

    number_types   how the file keeps the numbers that are no arrays
    """

    version: int
    tensors: Mapping[str, TensorInfo]
    number_types: Mapping[str, np.dtype[Any]]

    @property
    def typed_metadata(self) -> Mapping[str, MetadataValue | np.generic]:
        """The metadata with each number as the numpy scalar of its type in the file, for writing it again."""
        typed = {key: dtype.type(self.metadata[key]) for key, dtype in self.number_types.items()}
        return MappingProxyType({**self.metadata, **typed})

    @property
    def architecture(self) -> str:
        """``general.architecture``, for example ``"llama"``; MalformedFile when it is missing or not a text."""
        return self.require_str("general.architecture")


class Bytes(Protocol):
    """What a header is read from; OpenFile is one."""

    path: Path
    size_bytes: int

    def read(self, begin: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Exactly these bytes."""


def read_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Read and check the header of the GGUF file at ``path``.

    Raises ModelNotFound when there is no file, MalformedFile when it breaks the format's rules or a limit above, and
    UnsupportedModel for a well-formed file that is split, big-endian, of another version, or has tensors of a type
    that is not in TensorType.
    """
    with OpenFile(Path(path)) as file:
        return read_gguf_header(file)


def read_gguf_header(file: Bytes) -> GGUFFile:
    """The same of a file that is open, wherever it lies."""
    cursor = _Cursor(file)
    version = _read_version(cursor)
    n_tensors = cursor.count("tensors", MAX_TENSORS)
    n_keys = cursor.count("metadata keys", MAX_KEYS)
    metadata, number_types = _read_metadata(cursor, n_keys)
    header = CheckedMetadata(file.path, metadata)
    _refuse_split(header)
    entries = [_read_tensor_entry(cursor) for _ in range(n_tensors)]
    tensors = _place_tensors(cursor, entries, _alignment_bytes(header))
    return GGUFFile(
        file.path,
        MappingProxyType(metadata),
        version,
        MappingProxyType(tensors),
        MappingProxyType(number_types),
    )


class _Cursor:
    """A position in the header. Bytes are known to be there before they are looked at."""

    __slots__ = ("_file", "data", "end", "file_bytes", "path", "position")

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self.path = file.path
        self.data = bytearray()  # the beginning of the file, as far as it was needed
        self.position = 0
        self.file_bytes = file.size_bytes
        self.end = min(file.size_bytes, MAX_HEADER_BYTES)
        self.load(min(self.end, _FIRST_BYTES))

    def load(self, end: int) -> int:
        """Have at least the first ``end`` bytes of the header in ``data``; returns how many there are."""
        n_loaded = len(self.data)
        if end > n_loaded:
            self.data += self._file.read(n_loaded, min(max(end, 2 * n_loaded), self.end) - n_loaded).data
        return len(self.data)

    def malformed(self, problem: str) -> MalformedFile:
        """The error for this file."""
        return MalformedFile(self.path, problem)

    def advance(self, n_bytes: int, what: str) -> int:
        """Step over ``n_bytes`` and return where they begin; ``what`` names them when the file ends before they do."""
        start = self.position
        if n_bytes > self.end - start:
            raise self.cut_off(what)
        self.position = start + n_bytes
        self.load(self.position)
        return start

    def cut_off(self, what: str) -> MalformedFile:
        """The error for a file that ends too early, or a header that does not end at all."""
        if self.end == MAX_HEADER_BYTES:
            return self.malformed(f"its header is longer than {format_bytes(MAX_HEADER_BYTES)}")
        return self.malformed(f"it ends inside {what}")

    def scalar(self, code: str, what: str) -> Any:
        """One number of a struct code."""
        start = self.advance(struct.calcsize(code), what)
        return struct.unpack_from(code, self.data, start)[0]

    def count(self, what: str, limit: int) -> int:
        """A u64 that says how many of ``what`` follow."""
        value: int = self.scalar("<Q", f"the number of {what}")
        if value > limit:
            raise self.malformed(f"it claims {value} {what}, and at most {limit} are allowed")
        return value

    def string(self, what: str) -> str:
        """Length and UTF-8 bytes."""
        n_bytes: int = self.scalar("<Q", what)
        start = self.advance(n_bytes, what)
        return self.text(self.data[start : start + n_bytes], what)

    def name(self, what: str, limit_bytes: int) -> str:
        """A string that is shown to people: not empty, not too long, without control characters."""
        n_bytes: int = self.scalar("<Q", what)
        if not 0 < n_bytes <= limit_bytes:
            raise self.malformed(f"{what} has {n_bytes} bytes, expected 1 to {limit_bytes}")
        start = self.advance(n_bytes, what)
        name = self.text(self.data[start : start + n_bytes], what)
        if not name.isprintable():
            raise self.malformed(f"{what} has unprintable characters")
        return name

    def text(self, encoded: bytearray, what: str) -> str:
        """Decoded strictly: what is not UTF-8 would fail later, when it is printed."""
        try:
            return encoded.decode()
        except UnicodeDecodeError:
            raise self.malformed(f"{what} is not UTF-8") from None


def _read_version(cursor: _Cursor) -> int:
    start = cursor.data[:64]
    if not start.startswith(b"GGUF"):
        mistaken = next((problem for prefix, problem in _MISTAKEN if start.startswith(prefix)), None)
        is_text = start.isascii() and "".join(start.decode("ascii").split()).isprintable()
        raise cursor.malformed(mistaken or ("it is a text file" if is_text else "it does not begin with 'GGUF'"))
    cursor.advance(4, "the magic")
    version: int = cursor.scalar("<I", "the version")
    if version in (2, 3):
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, 2, 3):
        raise UnsupportedModel("big-endian GGUF files", hint="Pull the little-endian file of the same model.")
    raise UnsupportedModel(
        f"GGUF version {version}, only versions 2 and 3", hint="Convert the model again, or pull another file of it."
    )


def _read_metadata(cursor: _Cursor, n_keys: int) -> tuple[dict[str, MetadataValue], dict[str, np.dtype[Any]]]:
    metadata: dict[str, MetadataValue] = {}
    number_types: dict[str, np.dtype[Any]] = {}
    for index in range(n_keys):
        key = cursor.name(f"metadata key {index}", MAX_KEY_BYTES)
        what = f"metadata '{key:.80}'"
        if key in metadata:
            raise cursor.malformed(f"{what} occurs twice")
        value_type: int = cursor.scalar("<I", what)
        metadata[key] = _read_value(cursor, value_type, what)
        if value_type in SCALARS and value_type != BOOL:
            number_types[key] = np.dtype(SCALARS[value_type])
    return metadata, number_types


def _read_value(cursor: _Cursor, value_type: int, what: str) -> MetadataValue:
    if value_type == STRING:
        return cursor.string(what)
    if value_type == ARRAY:
        return _read_array(cursor, what)
    code = _scalar_code(cursor, value_type, what)
    value: int | float = cursor.scalar(code, what)
    if value_type != BOOL:
        return value
    if value not in (0, 1):
        raise cursor.malformed(f"{what} is a boolean with the value {value}")
    return bool(value)


def _read_array(cursor: _Cursor, what: str) -> list[str] | npt.NDArray[Any]:
    item_type: int = cursor.scalar("<I", what)
    n_items: int = cursor.scalar("<Q", what)
    if item_type == ARRAY:
        raise cursor.malformed(f"{what} is an array of arrays, which no model needs")
    code = "<Q" if item_type == STRING else _scalar_code(cursor, item_type, what)  # a string is at least its length
    n_bytes = n_items * struct.calcsize(code)
    if n_bytes > cursor.end - cursor.position:
        raise cursor.malformed(f"{what} claims {n_items} items, more than the file can hold")
    if item_type == STRING:
        return _read_strings(cursor, n_items, what)
    start = cursor.advance(n_bytes, what)
    # On bytes of its own: it must not keep the header alive, and nobody may write to it.
    array = np.frombuffer(bytes(cursor.data[start : start + n_bytes]), code)
    if item_type != BOOL:
        return array
    if array.size and array.max() > 1:
        raise cursor.malformed(f"{what} is an array of booleans with the value {array.max()}")
    return array.view(np.bool_)


def _read_strings(cursor: _Cursor, n_items: int, what: str) -> list[str]:
    # Vocabularies come here with 100,000s of strings: one tight loop, no call per string into the cursor.
    data, end, limit, loaded = cursor.data, cursor.position, cursor.end, len(cursor.data)
    strings: list[str] = []
    try:
        for _ in range(n_items):
            start = end + _LENGTH_BYTES
            if start > limit:
                break
            if start > loaded:
                loaded = cursor.load(start)
            end = start + _unpack_length(data, end)[0]
            if end > limit:
                break
            if end > loaded:
                loaded = cursor.load(end)
            strings.append(data[start:end].decode())
    except UnicodeDecodeError:
        raise cursor.malformed(f"item {len(strings)} of {what} is not UTF-8") from None
    if len(strings) < n_items:
        raise cursor.cut_off(f"item {len(strings)} of {what}")
    cursor.position = end
    return strings


def _scalar_code(cursor: _Cursor, value_type: int, what: str) -> str:
    code = SCALARS.get(value_type)
    if code is None:
        raise cursor.malformed(f"{what} has the unknown value type {value_type}")
    return code


def _refuse_split(header: CheckedMetadata) -> None:
    n_parts = header.get_int("split.count", 0)
    if n_parts > 1:
        part = header.get_int("split.no", 0) + 1
        raise UnsupportedModel(
            f"models split over several GGUF files, and '{header.path.name}' is part {part} of {n_parts}",
            hint="Join them with 'llama-gguf-split --merge FIRST_PART WHOLE', or pull a file that is not split.",
        )


def _alignment_bytes(header: CheckedMetadata) -> int:
    alignment = header.get_int("general.alignment", 32, low=8, high=MAX_ALIGNMENT)
    if alignment & (alignment - 1):
        raise MalformedFile(header.path, f"metadata 'general.alignment' is {alignment}, expected a power of two")
    return alignment


class _TensorEntry(NamedTuple):
    """One row of the tensor table; the offset counts from the start of the data section."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    offset_bytes: int


def _read_tensor_entry(cursor: _Cursor) -> _TensorEntry:
    name = cursor.name("a tensor name", MAX_TENSOR_NAME_BYTES)
    what = f"tensor '{name}'"
    n_dims: int = cursor.scalar("<I", what)
    if not 1 <= n_dims <= MAX_DIMS:
        raise cursor.malformed(f"{what} has {n_dims} dimensions, expected 1 to {MAX_DIMS}")
    dims: list[int] = [cursor.scalar("<Q", what) for _ in range(n_dims)]
    type_id: int = cursor.scalar("<I", what)
    offset_bytes: int = cursor.scalar("<Q", what)
    if 0 in dims:
        raise cursor.malformed(f"{what} has a dimension of zero: {dims}")
    if prod(dims) > MAX_ELEMENTS:
        raise cursor.malformed(f"{what} has more elements than fit into 63 bits: {dims}")
    tensor_type = _tensor_type(type_id, what)
    if dims[0] % tensor_type.block_elements:
        raise cursor.malformed(
            f"{what} has rows of {dims[0]} elements, which are no whole blocks of {tensor_type.name} "
            f"({tensor_type.block_elements} elements each)"
        )
    return _TensorEntry(name, tensor_type, tuple(reversed(dims)), offset_bytes)


def _tensor_type(type_id: int, what: str) -> TensorType:
    try:
        return TensorType(type_id)
    except ValueError:
        raise UnsupportedModel(
            f"tensor type {_UNLISTED_TYPES.get(type_id, 'unknown')} (id {type_id}), which {what} has",
            hint="Pull another quantization of the model, for example Q4_K_M or Q8_0.",
        ) from None


def _place_tensors(cursor: _Cursor, entries: list[_TensorEntry], alignment: int) -> dict[str, TensorInfo]:
    """Absolute offsets, once every tensor is known to lie inside the file and apart from the others."""
    data_start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, tensor_type, shape, offset in entries:
        if name in tensors:
            raise cursor.malformed(f"tensor '{name}' occurs twice")
        if offset % alignment:
            raise cursor.malformed(f"tensor '{name}' begins at offset {offset}, no multiple of {alignment}")
        info = TensorInfo(name, tensor_type, shape, cursor.path, data_start + offset)
        end = info.offset_bytes + info.size_bytes
        if end > cursor.file_bytes:
            raise cursor.malformed(f"tensor '{name}' ends at byte {end}, but the file ends at byte {cursor.file_bytes}")
        tensors[name] = info
    by_offset = sorted(tensors.values(), key=lambda info: info.offset_bytes)
    for before, after in pairwise(by_offset):
        if before.offset_bytes + before.size_bytes > after.offset_bytes:
            raise cursor.malformed(f"tensors '{before.name}' and '{after.name}' overlap")
    return tensors
