"""Who takes part: a model, and the engine that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.engines import engine_entries, find_engine
from madang.models import FileReference, ModelFiles, Store, parse_reference, read_endpoint
from madang.runtime import find_files
from madang.runtime.open import Fetch

MOST_CONTESTANTS: Final = 32


@dataclass(frozen=True, slots=True)
class Contestant:
    """A reference as models are named, and the engine that was asked for; None takes the one that fits."""

    reference: str
    engine: str | None = None

    def __str__(self) -> str:
        return self.reference if self.engine is None else f"{self.reference}@{self.engine}"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contestant whose files are here.

    label        what it is called in tables; no two are alike
    digest       SHA-256 of the files; of the name, where nothing of it lies here
    size_bytes   of the files; None where nothing of it lies here
    """

    contestant: Contestant
    label: str
    digest: str
    size_bytes: int | None


def parse_contestants(texts: Sequence[str], engine: str | None = None) -> list[Contestant]:
    """``model`` or ``model@engine``; ``engine`` is for those that name none. Raises UnknownOption, InvalidRequest.

    What follows the last @ is an engine where there is one of that name, else it belongs to the model.
    """
    if engine is not None:
        find_engine(engine)
    known = {entry.name for entry in engine_entries()}
    found = []
    for text in texts:
        reference, at, word = text.rpartition("@")
        found.append(Contestant(reference, word) if at and reference and word in known else Contestant(text, engine))
    if len(found) > MOST_CONTESTANTS:
        raise InvalidRequest(f"{len(found)} models were given, at most {MOST_CONTESTANTS} can be compared.")
    again = next((own for own in found if found.count(own) > 1), None)
    if again is not None:
        raise InvalidRequest(f"'{again}' was given more than once.", param="model")
    return found


def enter(contestants: Sequence[Contestant], settings: Settings, fetch: Fetch | None = None) -> list[Entrant]:
    """Find the files, and read them for their digests. Raises what ``find_files`` raises."""
    store = Store(settings.home)
    labels = _labels(contestants)
    digests: dict[Path, str] = {}
    entrants = []
    for contestant, label in zip(contestants, labels, strict=True):
        if not _has_files(contestant):
            digest = hashlib.sha256(contestant.reference.encode()).hexdigest()
            entrants.append(Entrant(contestant, label, digest, None))
            continue
        files = find_files(contestant.reference, store, fetch=fetch)
        if files.path not in digests:
            digests[files.path] = _digest(files)
        entrants.append(Entrant(contestant, label, digests[files.path], files.size_bytes))
    return entrants


def _has_files(contestant: Contestant) -> bool:
    if read_endpoint(contestant.reference) is not None:
        return False
    return contestant.engine is None or find_engine(contestant.engine).reads_files


def _labels(contestants: Sequence[Contestant]) -> list[str]:
    """File names are enough where they differ."""
    short = [_short(contestant) for contestant in contestants]
    return [
        str(contestant) if short.count(name) > 1 else name for contestant, name in zip(contestants, short, strict=True)
    ]


def _short(contestant: Contestant) -> str:
    if not _has_files(contestant):
        return str(contestant)
    reference = parse_reference(contestant.reference)
    name = reference.path.name if isinstance(reference, FileReference) else contestant.reference
    return str(Contestant(name, contestant.engine))


def _digest(files: ModelFiles) -> str:
    """Of a file its SHA-256; of a folder that of the names and digests of its files."""
    if files.path.is_file():
        return _sha256(files.path)
    digest = hashlib.sha256()
    for path in sorted(path for path in files.path.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(files.path).as_posix()}\0{_sha256(path)}\0".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
