"""What the sources share: a place to put things, and what they bring back; downloading.py does the work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
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
class Found:
    """A file that another program, or the store, has already and that may be the one wanted: its digest will tell.

    holder   whose it is, for sentences; None when it is the store's own
    """

    path: Path
    holder: str | None = None


def _nowhere(name: str, size_bytes: int, sha256: str) -> Iterable[Found]:
    return ()


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one fetch may write. What is left in ``folder`` after an interruption is there again at the next attempt.

    require_space   raises NotEnoughDisk when so many more bytes would not fit
    look_up         (name, size_bytes, sha256) -> files on this machine that may hold that content
    """

    folder: Path
    require_space: Callable[[int], None]
    look_up: Callable[[str, int, str], Iterable[Found]] = _nowhere


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
class ReferencedFile:
    """A complete, checked file of another program, which stays where it is.

    modified_ns   of the moment when it was checked
    """

    name: str
    path: Path
    size_bytes: int
    modified_ns: int
    holder: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source's answer. ``source`` names exactly what was fetched; ``sampling`` and ``preset`` came along with it.

    notes   sentences that whoever asked for the model should read
    """

    format: ModelFormat
    files: tuple[StagedFile | ReferencedFile, ...]
    source: str
    sampling: SamplingParams = field(default_factory=SamplingParams)
    preset: Preset | None = None
    notes: tuple[str, ...] = ()

    @property
    def staged(self) -> tuple[StagedFile, ...]:
        """The files that the store takes in."""
        return tuple(file for file in self.files if isinstance(file, StagedFile))


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
