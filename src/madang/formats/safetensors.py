"""Where each tensor of a safetensors checkpoint lies: one file, or a folder with an index. Data is never touched.

Format: the safetensors specification (huggingface/safetensors, README): header length u64, header, data section. The
header is one JSON object, name -> {dtype, shape, data_offsets}; the tensors fill the data section without holes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from madang.core.errors import FOLDER_ENGINE, MalformedFile, UnsupportedModel
from madang.core.units import format_bytes
from madang.formats.reading import OpenFile, unreadable
from madang.formats.tensors import TensorInfo, TensorType

# The limit of the reference implementation.
MAX_HEADER_BYTES: Final = 100_000_000
MAX_NAME_CHARACTERS: Final = 1024
MAX_DIMS: Final = 8
SINGLE_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"

_LENGTH_BYTES: Final = 8
_MAX_DIGITS: Final = 19  # what an unsigned 63-bit number needs
_DTYPES: Final[Mapping[str, TensorType]] = MappingProxyType(
    {name: TensorType[name] for name in ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8")}
)
# The format's other dtypes: valid in a file, without a TensorType to read them as.
_UNLISTED_DTYPE: Final = re.compile(
    r"BOOL|U8|U16|U32|U64|F4|F6_E[23]M[23]|F8_E4M3|F8_E5M2|F8_E8M0|F8_E[45]M[23]FNUZ|C64"
)
_BITS: Final = re.compile(r"\d+")  # the first number of a dtype; BOOL has none and 8 bits


@dataclass(frozen=True, slots=True)
class _Unlisted:
    """A tensor that lies in a file and cannot be read."""

    name: str
    dtype: str
    path: Path
    offset_bytes: int
    size_bytes: int


_Stored: TypeAlias = TensorInfo | _Unlisted


class CheckpointTensors(Mapping[str, TensorInfo]):
    """Tensors by name. One whose dtype TensorType cannot express is listed, and UnsupportedModel once asked for:
    checkpoints carry masks and other leftovers that nobody reads.
    """

    def __init__(self, stored: Mapping[str, _Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> TensorInfo:
        """Where a tensor lies. Raises KeyError, UnsupportedModel."""
        tensor = self._stored[name]
        if isinstance(tensor, _Unlisted):
            raise UnsupportedModel(
                f"dtype {tensor.dtype}, which tensor '{name}' in {tensor.path.name} has", runs_with=FOLDER_ENGINE
            )
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of the file."""
        return iter(self._stored)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._stored)


def read_safetensors(path: str | os.PathLike[str]) -> CheckpointTensors:
    """Tensors by name, of a ``.safetensors`` file or of a folder that holds ``model.safetensors`` or an index.

    Raises ModelNotFound when there is nothing at ``path``, MalformedFile when a file breaks the format's rules or a
    shard is missing.
    """
    path = Path(path)
    names = _folder_names(path)
    if names is None:
        return CheckpointTensors(_read_file(path))
    if SINGLE_FILE in names:
        return CheckpointTensors(_read_file(path / SINGLE_FILE))
    if INDEX_FILE in names:
        return CheckpointTensors(_read_sharded(path / INDEX_FILE, names))
    raise MalformedFile(path, f"the folder has neither {SINGLE_FILE} nor {INDEX_FILE}")


def _folder_names(path: Path) -> frozenset[str] | None:
    try:
        return frozenset(entry.name for entry in path.iterdir())
    except (NotADirectoryError, FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def _read_sharded(index_path: Path, names: frozenset[str]) -> dict[str, _Stored]:
    with OpenFile(index_path) as file:
        if file.size_bytes > MAX_HEADER_BYTES:
            raise MalformedFile(index_path, f"it is larger than {format_bytes(MAX_HEADER_BYTES)}")
        index = _parse_object(index_path, file.read(0, file.size_bytes).tobytes())
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        raise MalformedFile(index_path, "it has no object 'weight_map'")
    shards: dict[str, dict[str, _Stored]] = {}
    tensors: dict[str, _Stored] = {}
    for name, value in weight_map.items():
        shard = _shard_name(index_path, value, names)
        if shard not in shards:
            shards[shard] = _read_file(index_path.parent / shard)
        if name not in shards[shard]:
            raise MalformedFile(index_path, f"it puts tensor '{name}' into '{shard}', which does not have it")
        tensors[name] = shards[shard][name]
    return tensors


def _shard_name(index_path: Path, shard: object, names: frozenset[str]) -> str:
    """The name of a file beside the index, and never anywhere else."""
    plain = isinstance(shard, str) and shard.isprintable() and not set(shard) & set("/\\:")
    if not isinstance(shard, str) or not plain or not shard.endswith(".safetensors"):
        raise MalformedFile(
            index_path, f"it names the shard {shard!r:.80}, expected a plain file name ending in '.safetensors'"
        )
    if shard not in names:
        raise MalformedFile(index_path, f"its shard '{shard}' is missing from the folder")
    return shard


def _read_file(path: Path) -> dict[str, _Stored]:
    with OpenFile(path) as file:
        encoded = _header_bytes(file)
    header = _parse_object(path, encoded)
    data_start = _LENGTH_BYTES + len(encoded)
    _check_user_metadata(path, header.pop("__metadata__", {}))
    tensors = {name: _stored_tensor(path, name, entry, data_start) for name, entry in header.items()}
    _check_layout(path, tensors, data_start, file.size_bytes)
    return tensors


def _header_bytes(file: OpenFile) -> bytes:
    path, left = file.path, file.size_bytes - _LENGTH_BYTES
    if left < 0:
        raise MalformedFile(path, f"it has {file.size_bytes} bytes, too few for a header")
    n_bytes = int.from_bytes(file.read(0, _LENGTH_BYTES), "little")
    if n_bytes > MAX_HEADER_BYTES:
        raise MalformedFile(path, f"it claims a header of {n_bytes} bytes, and at most {MAX_HEADER_BYTES} are allowed")
    if n_bytes > left:
        raise MalformedFile(path, f"its header needs {n_bytes} bytes, but {left} are left")
    return file.read(_LENGTH_BYTES, n_bytes).tobytes()


def _parse_object(path: Path, encoded: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN, negative or endless integers."""
    if not encoded.startswith(b"{"):
        raise MalformedFile(path, "its header is not a JSON object")
    try:
        # Decoded here, because json.loads would also accept UTF-16 and UTF-32.
        parsed: dict[str, Any] = json.loads(
            encoded.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_unsigned
        )
    except UnicodeDecodeError:
        raise MalformedFile(path, "its header is not UTF-8") from None
    except RecursionError:
        raise MalformedFile(path, "its header is nested too deeply") from None
    except ValueError as error:
        raise MalformedFile(path, f"its header is not valid JSON ({error})") from None
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if not key.isprintable() or len(key) > MAX_NAME_CHARACTERS:
            raise ValueError("a key is too long or has unprintable characters")
        if key in result:
            raise ValueError(f"the key '{key}' occurs twice")
        result[key] = value
    return result


def _refuse_constant(text: str) -> object:
    raise ValueError(f"'{text}' is not JSON")


def _unsigned(text: str) -> int:
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ValueError(f"'{text[:24]}' is negative or too large")
    return int(text)


def _check_user_metadata(path: Path, metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedFile(path, "its '__metadata__' is not an object of texts")


def _stored_tensor(path: Path, name: str, entry: object, data_start: int) -> _Stored:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise MalformedFile(path, f"tensor '{name}' does not have exactly dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _is_int_list(shape) or len(shape) > MAX_DIMS:
        raise MalformedFile(path, f"the shape of tensor '{name}' is not a list of up to {MAX_DIMS} whole numbers")
    if not _is_int_list(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise MalformedFile(path, f"the data_offsets of tensor '{name}' are not a begin and an end")
    begin, end = offsets
    stored = _typed(path, name, entry["dtype"], tuple(shape), data_start + begin)
    if stored.size_bytes != end - begin:
        raise MalformedFile(
            path, f"tensor '{name}' is {stored.size_bytes} bytes by its shape and {end - begin} by its data_offsets"
        )
    return stored


def _is_int_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


def _typed(path: Path, name: str, dtype: object, shape: tuple[int, ...], offset_bytes: int) -> _Stored:
    if isinstance(dtype, str) and dtype in _DTYPES:
        return TensorInfo(name, _DTYPES[dtype], shape, path, offset_bytes)
    if isinstance(dtype, str) and _UNLISTED_DTYPE.fullmatch(dtype):
        bits = _BITS.search(dtype)
        size_bytes, rest = divmod(prod(shape) * (int(bits[0]) if bits else 8), 8)
        if rest:
            raise MalformedFile(path, f"tensor '{name}' does not fill whole bytes")
        return _Unlisted(name, dtype, path, offset_bytes, size_bytes)
    raise MalformedFile(path, f"tensor '{name}' has the unknown dtype {dtype!r:.80}")


def _check_layout(path: Path, tensors: Mapping[str, _Stored], data_start: int, file_bytes: int) -> None:
    """The tensors lie end to end and fill the data section: no byte is used twice, none is hidden between them."""
    by_offset = sorted(tensors.values(), key=lambda info: (info.offset_bytes, info.size_bytes))
    if by_offset and by_offset[0].offset_bytes != data_start:
        raise MalformedFile(path, f"there is a hole before tensor '{by_offset[0].name}'")
    for before, after in pairwise(by_offset):
        end = before.offset_bytes + before.size_bytes
        if end > after.offset_bytes:
            raise MalformedFile(path, f"tensors '{before.name}' and '{after.name}' overlap")
        if end < after.offset_bytes:
            raise MalformedFile(path, f"there is a hole between tensors '{before.name}' and '{after.name}'")
    end = by_offset[-1].offset_bytes + by_offset[-1].size_bytes if by_offset else data_start
    if end != file_bytes:
        raise MalformedFile(path, f"its tensors end at byte {end}, but the file has {file_bytes} bytes")
