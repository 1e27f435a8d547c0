"""Writes safetensors checkpoints, the format of safetensors.py: one file, or shards and their index.

Data streams through: one chunk of what a tensor's ``data`` gives is in memory at a time. The folder that it goes into
is somebody else's to put in place (:func:`madang.core.writing.replacing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from madang.core.errors import MalformedFile
from madang.core.progress import Progress
from madang.formats.gguf_writing import READ_BYTES, TensorToWrite, pieces_of
from madang.formats.reading import OpenFile
from madang.formats.safetensors import INDEX_FILE, SINGLE_FILE, read_safetensors

SHARD_BYTES: Final = 5_000_000_000


def write_safetensors(
    folder: Path, tensors: Sequence[TensorToWrite], progress: Progress, *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the tensors into ``folder`` as one file, or as shards of at most ``shard_bytes`` where they are more.

    All is read back and compared. Raises MalformedFile when the disk gives back something else, and OSError.
    """
    shards = _shards(tensors, shard_bytes)
    if len(shards) == 1:
        write_file(folder / SINGLE_FILE, shards[0], progress)
    else:
        places: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_file(folder / name, shard, progress)
            places |= {tensor.name: name for tensor in shard}
        total_bytes = sum(tensor.size_bytes for tensor in tensors)
        index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(places.items()))}
        folder.joinpath(INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    _verify(folder, tensors)


def _shards(tensors: Sequence[TensorToWrite], shard_bytes: int) -> list[list[TensorToWrite]]:
    shards: list[list[TensorToWrite]] = [[]]
    size_bytes = 0
    for tensor in tensors:
        if shards[-1] and size_bytes + tensor.size_bytes > shard_bytes:
            shards.append([])
            size_bytes = 0
        shards[-1].append(tensor)
        size_bytes += tensor.size_bytes
    return shards


def write_file(path: Path, tensors: Sequence[TensorToWrite], progress: Progress) -> None:
    """Write one new file and read it back. Raises MalformedFile when that gives something else, and OSError."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size_bytes
        header[tensor.name] = {"dtype": tensor.type.name, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for piece in (len(encoded).to_bytes(8, "little"), encoded):
            file.write(piece)
            digest.update(piece)
        for tensor in tensors:
            for chunk in pieces_of(tensor):
                file.write(chunk)
                digest.update(chunk)
                progress.advanced(len(chunk))
    if _sha256(path) != digest.hexdigest():
        raise MalformedFile(
            path.name, "what was read back is not what was written", hint="Check the disk; nothing was kept."
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with OpenFile(path) as file:
        for start in range(0, file.size_bytes, READ_BYTES):
            digest.update(file.read(start, min(READ_BYTES, file.size_bytes - start)).data)
    return digest.hexdigest()


def _verify(folder: Path, tensors: Sequence[TensorToWrite]) -> None:
    found = read_safetensors(folder)
    for tensor in tensors:
        info = found[tensor.name]
        if (info.type, info.shape) != (tensor.type, tensor.shape):
            raise MalformedFile(folder, f"tensor '{tensor.name}' was read back as {info.type.name} {info.shape}")
