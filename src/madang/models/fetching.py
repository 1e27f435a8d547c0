"""What the sources share: a place to put things, and what they bring back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from madang.core.errors import ChecksumMismatch, SourceError
from madang.core.progress import Progress as Progress
from madang.core.progress import SilentProgress as SilentProgress
from madang.core.sampling import SamplingParams
from madang.models.files import ModelFormat
from madang.models.preset import Preset

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one fetch may write. What is left in ``folder`` after an interruption is there again at the next attempt.

    require_space   raises NotEnoughDisk when so many more bytes would not fit
    """

    folder: Path
    require_space: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Pin:
    """What is known of a file before it is fetched; None where it is not."""

    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a package or repository make up the model; empty ``files`` lets the source choose.

    folder           the files' common folder inside the package
    download_bytes   what has to be transferred, when it differs from the sum of the files
    """

    format: ModelFormat | None = None
    folder: str = ""
    files: Mapping[str, Pin] | None = None
    download_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A complete, checked file in the workspace, ready to become a blob."""

    name: str
    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source's answer. ``source`` names exactly what was fetched; ``sampling`` and ``preset`` came along with it."""

    format: ModelFormat
    files: tuple[StagedFile, ...]
    source: str
    sampling: SamplingParams = field(default_factory=SamplingParams)
    preset: Preset | None = None


def copy_and_hash(source: IO[bytes], target: Path, size_bytes: int) -> str:
    """Copy ``size_bytes`` bytes, neither more nor fewer, and return their sha256 in hexadecimal.

    Raises SourceError when the source holds another number of bytes.
    """
    digest = hashlib.sha256()
    n_bytes = 0
    with target.open("wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > size_bytes:
                break
            digest.update(chunk)
            file.write(chunk)
    if n_bytes != size_bytes:
        raise SourceError(f"{target.name} should have {size_bytes} bytes, but has {_count(n_bytes, size_bytes)}.")
    return digest.hexdigest()


def _count(n_bytes: int, limit_bytes: int) -> str:
    return "more" if n_bytes > limit_bytes else str(n_bytes)


def check_sha256(what: str, expected: str | None, actual: str) -> None:
    """Raise ChecksumMismatch when a checksum was promised and the bytes have another."""
    if expected is not None and expected != actual:
        raise ChecksumMismatch(what, expected, actual)
