"""Files of the server's machine that a manager may have read: below folders that its owner has allowed, and no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from madang.core.errors import Forbidden, InvalidRequest

MOST_FILES: Final = 1000  # of one request


def files_below(roots: str | None, wanted: str) -> list[tuple[Path, int]]:
    """The file, or every document of the folder, each with its bytes.

    Raises Forbidden for what is outside of every root, wherever links lead, and does not tell whether it exists;
    InvalidRequest for what is not there or too many.
    """
    allowed = [Path(os.path.realpath(root)) for root in (roots or "").split(os.pathsep) if root.strip()]
    if not allowed:
        raise Forbidden(
            "This server reads no files of its machine.",
            hint="Its owner allows a folder with MADANG_DOCUMENT_ROOTS, or documents are uploaded.",
        )
    if "\0" in wanted:
        raise InvalidRequest("A path has no NUL in it.", param="path")
    path = Path(os.path.realpath(wanted))
    if not Path(wanted).is_absolute() or not _is_below(path, allowed):
        raise Forbidden("This path is not below a folder that the server may read documents of.")
    from madang.rag.reading import find_files

    found = [one for one in find_files([path]) if _is_below(Path(os.path.realpath(one)), allowed)]
    if not found:
        raise InvalidRequest("There is no document at this path.", param="path")
    if len(found) > MOST_FILES:
        raise InvalidRequest(f"There are {len(found)} documents, and {MOST_FILES} is the limit.", param="path")
    return [(one, one.stat().st_size) for one in found]


def _is_below(path: Path, roots: list[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
