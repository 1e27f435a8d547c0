"""What is in a GGUF file, and what is wrong with it: types and bytes, fallbacks, tokenizer, chat template, values.

A file that breaks the format's rules is refused by :func:`~madang.formats.gguf.read_gguf` with a sentence; here are the
mistakes that a well-formed file can have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import CannotQuantize, MadangError
from madang.core.progress import Progress, SilentProgress
from madang.formats.families import describe_gguf
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.gguf_writing import READ_BYTES, read_chunks
from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import READABLE_TYPES, dequantize
from madang.quantization.presets import PRESETS, ModelFacts, Preset, is_quantizable, preset_types
from madang.quantization.tokens_audit import Finding, audit_tokenizer

_SUPER_BLOCK: Final = 256
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"
_CHUNK_VALUES: Final = 16 * 2**20
_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor; ``share`` is its part of all tensors' bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class TypeRow:
    """All tensors of a type."""

    type: str
    tensors: int
    parameters: int
    size_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor that has another type than the preset wants, because its rows are no whole blocks of that."""

    name: str
    n_columns: int
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that was found.

    preset            what the file says it is; None when it says nothing that is known
    fallbacks         tensors of other types because of the width of their rows
    others            how many tensors have another type for no such reason: a mix of somebody's own
    bits_per_weight   of all tensors together
    """

    path: Path
    sha256: str
    size_bytes: int
    architecture: str
    preset: str | None
    parameters: int
    tensor_bytes: int
    bits_per_weight: float
    embedding_share: float
    types: Sequence[TypeRow]
    tensors: Sequence[TensorRow]
    fallbacks: Sequence[Fallback]
    others: int
    tokenizer: Mapping[str, Any]
    findings: Sequence[Finding]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": str(self.path)}


def audit_file(path: Path, progress: Progress | None = None) -> Audit:
    """Look at everything in the GGUF file at ``path``; all of it is read, twice.

    Raises what ``read_gguf`` raises: then it is no file that could be looked at.
    """
    gguf = read_gguf(path)
    progress = progress or SilentProgress()
    total_bytes = sum(tensor.size_bytes for tensor in gguf.tensors.values())
    size_bytes = path.stat().st_size
    progress.started(size_bytes + total_bytes)
    sha256 = _sha256(path, progress)
    findings = [*_layout_findings(gguf, size_bytes), *_family_findings(gguf)]
    for tensor in gguf.tensors.values():
        findings += _value_findings(tensor)
        progress.advanced(tensor.size_bytes)
    findings += _duplicates(list(gguf.tensors.values()))
    tokenizer, about_tokens = audit_tokenizer(gguf, _n_rows(gguf))
    preset = _preset_of(gguf)
    fallbacks, others = ([], 0) if preset is None else _compared(gguf, PRESETS[preset])
    parameters = sum(tensor.n_elements for tensor in gguf.tensors.values())
    progress.finished()
    return Audit(
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        architecture=gguf.architecture,
        preset=preset,
        parameters=parameters,
        tensor_bytes=total_bytes,
        bits_per_weight=8 * total_bytes / max(parameters, 1),
        embedding_share=_embedding_bytes(gguf) / max(total_bytes, 1),
        types=_type_rows(gguf, total_bytes),
        tensors=_tensor_rows(gguf, total_bytes),
        fallbacks=fallbacks,
        others=others,
        tokenizer=tokenizer,
        findings=[*findings, *about_tokens],
    )


# ---- the map


def _tensor_rows(gguf: GGUFFile, total_bytes: int) -> list[TensorRow]:
    return [
        TensorRow(tensor.name, tensor.type.name, tensor.shape, tensor.size_bytes, tensor.size_bytes / total_bytes)
        for tensor in gguf.tensors.values()
    ]


def _type_rows(gguf: GGUFFile, total_bytes: int) -> list[TypeRow]:
    by_type: dict[TensorType, list[TensorInfo]] = {}
    for tensor in gguf.tensors.values():
        by_type.setdefault(tensor.type, []).append(tensor)
    rows: list[TypeRow] = []
    for tensor_type, tensors in by_type.items():
        size_bytes = sum(tensor.size_bytes for tensor in tensors)
        parameters = sum(tensor.n_elements for tensor in tensors)
        rows.append(TypeRow(tensor_type.name, len(tensors), parameters, size_bytes, size_bytes / total_bytes))
    return sorted(rows, key=lambda row: row.size_bytes, reverse=True)


def _embedding_bytes(gguf: GGUFFile) -> int:
    return sum(gguf.tensors[name].size_bytes for name in (_EMBEDDING, _OUTPUT) if name in gguf.tensors)


def _n_rows(gguf: GGUFFile) -> int | None:
    tensor = gguf.tensors.get(_EMBEDDING)
    return None if tensor is None else tensor.shape[0]


# ---- against the preset


def _preset_of(gguf: GGUFFile) -> str | None:
    number = gguf.metadata.get("general.file_type")
    return next((name for name, preset in PRESETS.items() if preset.file_type == number), None)


def _compared(gguf: GGUFFile, preset: Preset) -> tuple[list[Fallback], int]:
    """What differs from the preset: because of the rows' width, and otherwise."""
    tensors = list(gguf.tensors.values())
    facts = ModelFacts.of(gguf)
    has_importance = "quantize.imatrix.file" in gguf.metadata
    wide = [replace(tensor, shape=(*tensor.shape[:-1], _SUPER_BLOCK)) for tensor in tensors]
    wanted = preset_types(preset, wide, facts, has_importance=has_importance)
    expected = preset_types(preset, tensors, facts, has_importance=has_importance)
    fallbacks: list[Fallback] = []
    n_others = 0
    for tensor in filter(is_quantizable, tensors):
        best, n_columns = wanted[tensor.name], tensor.shape[-1]
        if tensor.type != best and n_columns % best.block_elements:
            fallbacks.append(Fallback(tensor.name, n_columns, best.name, tensor.type.name))
        elif tensor.type not in (best, expected[tensor.name]):
            n_others += 1
    return fallbacks, n_others


# ---- bytes and values


def _sha256(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with OpenFile(path) as file:
        for start in range(0, file.size_bytes, READ_BYTES):
            piece = file.read(start, min(READ_BYTES, file.size_bytes - start))
            digest.update(piece.data)
            progress.advanced(len(piece))
    return digest.hexdigest()


def _layout_findings(gguf: GGUFFile, size_bytes: int) -> Iterator[Finding]:
    if not gguf.tensors:
        yield Finding("error", "It has no tensors: a vocabulary, or a file that was cut off while it was written.")
        return
    end = max(tensor.file_range[1] for tensor in gguf.tensors.values())
    alignment = gguf.get_int("general.alignment", 32)
    if size_bytes - end >= alignment:
        yield Finding("warning", f"{size_bytes - end} bytes follow the last tensor, which nothing speaks of.")


def _family_findings(gguf: GGUFFile) -> Iterator[Finding]:
    try:
        describe_gguf(gguf)
    except MadangError as error:
        yield Finding("warning", error.message)


def _value_findings(tensor: TensorInfo) -> Iterator[Finding]:
    """NaN, infinities, and tensors of nothing but zeros."""
    if tensor.type not in READABLE_TYPES:
        yield Finding(
            "note", f"The values of '{tensor.name}' were not looked at: {tensor.type.name} cannot be read here."
        )
        return
    largest = 0.0
    try:
        for rows in _row_chunks(tensor):
            values = dequantize(rows, tensor.type)
            largest = max(largest, float(values.max()), -float(values.min()))
    except CannotQuantize as error:
        yield Finding("error", f"'{tensor.name}' holds values that are no weights ({error.problem}).")
        return
    if largest == 0.0 and not tensor.name.endswith(".bias"):
        yield Finding("warning", f"'{tensor.name}' is all zeros.")


def _row_chunks(tensor: TensorInfo) -> Iterator[Any]:
    n_rows, n_columns = prod(tensor.shape[:-1]), tensor.shape[-1]
    row_bytes = tensor.size_bytes // n_rows
    step = max(_CHUNK_VALUES // n_columns, 1)
    with OpenFile(tensor.path) as file:
        for begin in range(0, n_rows, step):
            n = min(step, n_rows - begin)
            yield file.read(tensor.offset_bytes + begin * row_bytes, n * row_bytes).reshape(n, row_bytes)


def _duplicates(tensors: Sequence[TensorInfo]) -> Iterator[Finding]:
    """Matrices that are there twice; the first bytes say which to compare."""
    seen: dict[tuple[object, ...], list[TensorInfo]] = {}
    for tensor in tensors:
        if len(tensor.shape) < 2:
            continue
        with OpenFile(tensor.path) as file:
            head = file.read(tensor.offset_bytes, min(_HEAD_BYTES, tensor.size_bytes)).tobytes()
        key = (tensor.type, tensor.shape, head)
        for other in seen.setdefault(key, []):
            if _equal(tensor, other) and np.frombuffer(head, np.uint8).any():
                hint = (
                    " The model could tie its output to its embedding." if _OUTPUT in (tensor.name, other.name) else ""
                )
                yield Finding("warning", f"'{tensor.name}' and '{other.name}' are the same, byte for byte.{hint}")
                break
        seen[key].append(tensor)


def _equal(one: TensorInfo, other: TensorInfo) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(read_chunks(one), read_chunks(other), strict=True))
