"""The record of one stored model: what it is, which files it has, where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from madang.core.errors import InvalidReference, InvalidRequest, MalformedFile
from madang.core.sampling import SamplingParams
from madang.models.files import ModelFormat
from madang.models.preset import Preset, read_preset
from madang.models.references import StoredReference, checked_relative, read_reference

SCHEMA = 1
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file, either a blob of the store (``digest``) or a file elsewhere (``path`` and ``modified_ns``).

    name   relative path inside the model, with forward slashes
    """

    name: str
    size_bytes: int
    digest: str | None = None
    path: str | None = None
    modified_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the store remembers of a model; ``source`` is exact where ``reference`` may be loose.

    preset   what a derived model adds to its files; None when it is nothing but them
    """

    reference: StoredReference
    format: ModelFormat
    source: str
    files: tuple[ManifestFile, ...]
    modified: datetime
    sampling: SamplingParams = field(default_factory=SamplingParams)
    preset: Preset | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> str:
        """The manifest as it stands on disk; unset values are left out."""
        record = {
            "schema": SCHEMA,
            "reference": str(self.reference),
            "format": self.format,
            "source": self.source,
            "modified": self.modified.isoformat(timespec="seconds"),
            "sampling": _without_none(asdict(self.sampling)),
            "files": [_without_none(asdict(file)) for file in self.files],
        }
        if self.preset is not None:
            record["preset"] = self.preset.to_record()
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Raises MalformedFile when the file does not follow the schema, OSError when it cannot be read."""
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise MalformedFile(path, f"a manifest of more than {MAX_MANIFEST_BYTES} bytes", hint=_hint(path))
    try:
        return _from_record(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, KeyError, TypeError, InvalidRequest) as error:
        problem = f"not a manifest of schema {SCHEMA} ({error})"
        raise MalformedFile(path, problem, hint=_hint(path)) from error


def _hint(path: Path) -> str:
    return f"Delete {path} and pull the model again."


def _from_record(record: Any) -> Manifest:
    if record["schema"] != SCHEMA or record["format"] not in get_args(ModelFormat):
        raise ValueError("unknown schema or format")
    reference = read_reference(_text(record["reference"]), {})
    if not isinstance(reference, StoredReference) or str(reference) != record["reference"]:
        raise InvalidReference(f"'{record['reference']}' is not a canonical reference.")
    files = tuple(_file(entry) for entry in record["files"])
    if not files or (record["format"] == "gguf" and len(files) != 1):
        raise ValueError(f"{len(files)} files")
    return Manifest(
        reference=reference,
        format=record["format"],
        source=_text(record["source"]),
        files=files,
        modified=datetime.fromisoformat(record["modified"]),
        sampling=SamplingParams.from_mapping(record["sampling"]),
        preset=read_preset(record["preset"]) if "preset" in record else None,
    )


def _file(entry: Mapping[str, Any]) -> ManifestFile:
    file = ManifestFile(**entry)
    checked_relative(_text(file.name))
    if not isinstance(file.size_bytes, int) or file.size_bytes < 0:
        raise ValueError("a file's size is not a number")
    if (file.digest is None) == (file.path is None) or (file.path is None) != (file.modified_ns is None):
        raise ValueError("a file has neither a digest nor a path, or both")
    for text in (file.digest, file.path):
        if text is not None:
            _text(text)
    return file


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
