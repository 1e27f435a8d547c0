"""From the paths that a user names to the files to read: no surprises, and nothing outside of what was named."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from madang.core.errors import Forbidden, InvalidRequest, NotFound
from madang.rag.parsing import SUFFIXES, ParsingLimits
from madang.rag.parsing.parser import DEFAULT_LIMITS, read_limited

MOST_FILES: Final = 100_000
_IGNORED_FOLDERS: Final = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "__MACOSX"})
_IGNORED_FILES: Final = frozenset({"thumbs.db", "desktop.ini", "package-lock.json", "yarn.lock"})
_LOCK_PREFIX: Final = "~$"  # what Office leaves beside an open document


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """``files`` in order, each once, as real paths; ``skipped`` counts what was left out of folders, by reason."""

    files: tuple[Path, ...]
    skipped: Mapping[str, int]


def find_files(paths: Iterable[str | Path], *, roots: Sequence[Path] | None = None) -> FoundFiles:
    """The files that are named, and those in the folders that are named and below.

    In folders, links are not followed, and hidden files, folders of other programs' packages and files of unknown
    formats are skipped; a file that is named itself is always taken. With ``roots``, all has to lie inside one of them.
    Raises NotFound, Forbidden for a path outside, and InvalidRequest for more files than MOST_FILES.
    """
    allowed = None if roots is None else [root.resolve() for root in roots]
    skipped: Counter[str] = Counter()
    files: dict[Path, None] = {}
    for path in paths:
        for file in _expanded(_inside(path, allowed), str(path), skipped):
            files[file] = None
            if len(files) > MOST_FILES:
                raise InvalidRequest(
                    f"There are more than {MOST_FILES:,} files in these folders.", param="path", hint="Name fewer."
                )
    return FoundFiles(tuple(files), dict(skipped))


def read_file(path: Path, limits: ParsingLimits = DEFAULT_LIMITS) -> tuple[bytes, str]:
    """A file's bytes and their digest. Raises DocumentError for one that is too large, no file, or not readable."""
    data = read_limited(path.name, path, limits)
    return data, digest_of(data)


def digest_of(data: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits: a document whose digest is known need not be read again."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _inside(path: str | Path, roots: Sequence[Path] | None) -> Path:
    """The real path. One outside of the roots is refused before anybody learns whether it exists."""
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):  # no path that a system can have
        raise NotFound("file or folder", str(path)) from None
    if roots is not None and not any(real.is_relative_to(root) for root in roots):
        raise Forbidden(
            f"{path} is outside of the folders that may be read here.",
            hint=f"They are: {', '.join(map(str, roots))}." if roots else "None may be read.",
        )
    return real


def _expanded(path: Path, named: str, skipped: Counter[str]) -> Iterator[Path]:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:
        is_folder = is_file = False
    if is_file:
        yield path
    elif is_folder:
        yield from _below(path, skipped)
    else:
        raise NotFound("file or folder", named)


def _below(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    def cannot_list(error: OSError) -> None:
        skipped["unreadable folders"] += 1

    for where, folders, names in os.walk(folder, onerror=cannot_list):
        kept = []
        for name in sorted(folders):
            reason = _skipped_folder(Path(where, name))
            skipped.update([reason] if reason else [])
            kept += [] if reason else [name]
        folders[:] = kept  # those to go on with
        for name in sorted(names):
            reason = _skipped_file(Path(where, name))
            skipped.update([reason] if reason else [])
            if reason is None:
                yield Path(where, name)


def _skipped_folder(folder: Path) -> str | None:
    if folder.is_symlink():
        return "links"
    if folder.name.startswith("."):
        return "hidden"
    return "ignored" if folder.name in _IGNORED_FOLDERS else None


def _skipped_file(file: Path) -> str | None:
    name = file.name.lower()
    if file.is_symlink():
        return "links"
    if name.startswith("."):
        return "hidden"
    if name in _IGNORED_FILES or name.startswith(_LOCK_PREFIX):
        return "ignored"
    if file.suffix.lower() not in SUFFIXES:
        return "other formats"
    return None if file.is_file() else "no files"
