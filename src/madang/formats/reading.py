"""A model file open for reading, with the ways of not being a readable file told apart.

Files are read, not mapped: one that another program cuts short while it is mapped kills the process that looks at it,
where a short read is an error like any other.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile, ModelError, ModelNotFound


class OpenFile:
    """Bytes at any position of a file that is not empty; a context manager.

    Raises ModelNotFound when nothing is at ``path``, MalformedFile for a folder, a device or an empty file, and
    ModelError when the system refuses to open it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _require_plain_file(path, path.stat())
            self._file = path.open("rb", buffering=0)
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        self.size_bytes = os.fstat(self._file.fileno()).st_size
        if self.size_bytes == 0:
            self._file.close()
            raise MalformedFile(path, "it is empty")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, begin: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Exactly these bytes.

        Raises MalformedFile when the file ends before them, which it did not when it was opened, and ModelError when
        the system cannot read them.
        """
        data = np.empty(n_bytes, np.uint8)
        rest = data.data
        try:
            self._file.seek(begin)
            while rest:
                n_read = self._file.readinto(rest)
                if not n_read:
                    raise MalformedFile(self.path, "it became shorter while it was read", hint="Load it again.")
                rest = rest[n_read:]
        except OSError as error:
            raise unreadable(self.path, error) from error
        return data


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
