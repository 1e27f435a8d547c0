"""A model file as read-only memory, with the ways of not being a readable file told apart."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from madang.core.errors import MalformedFile, ModelError, ModelNotFound


def map_file(path: Path) -> mmap.mmap:
    """Map ``path`` read-only; no byte is read from disk before it is used. The caller closes the map (``with``).

    Raises ModelNotFound when nothing is there, MalformedFile for a folder, a device or an empty file, and ModelError
    when the system refuses to open it.
    """
    try:
        _require_plain_file(path, path.stat())
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise MalformedFile(path, "it is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError | ValueError) -> ModelError:
    """What it means that ``path`` did not open; Python gives a ValueError for a name that no file can have."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return ModelNotFound(str(path), hint="Check the path; 'madang list' shows the models of this machine.")
    return ModelError(f"{path} cannot be read: {error.strerror}.", hint="Check who may read it.")


def _require_plain_file(path: Path, status: os.stat_result) -> None:
    # Before opening: opening a named pipe would wait for its other end.
    if stat.S_ISDIR(status.st_mode):
        raise MalformedFile(path, "it is a folder", hint="Name the model file inside it.")
    if not stat.S_ISREG(status.st_mode):
        raise MalformedFile(path, "it is a device or a pipe, not a file")
