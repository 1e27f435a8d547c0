"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from madang.core.errors import NotEnoughDisk

# The disk, this user's share of it, and the largest file that this process may write.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def free_disk_bytes(folder: Path) -> int:
    """Bytes that this user may still write below ``folder``, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def within_disk(folder: Path, n_bytes: int = 1, free_bytes: Callable[[Path], int] = free_disk_bytes) -> Iterator[None]:
    """What the system says of a full disk becomes NotEnoughDisk: ``n_bytes`` were to be written below ``folder``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        left_bytes = free_bytes(folder)
        raise NotEnoughDisk(folder, max(n_bytes, left_bytes + 1), left_bytes) from error


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Write ``text`` beside ``path`` and rename it into place, on the disk when this returns.

    A ``private`` file can be read by this user only, from its first byte on. Raises NotEnoughDisk, and OSError for what
    else the system refuses.
    """
    with within_disk(path.parent, len(text.encode("utf-8", "surrogatepass"))), replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write a file or a folder under, which takes its place when the block ends.

    It is on the disk then. Whatever the block raises, an interrupt included, ``path`` stays what it was and nothing is
    left beside it. A folder takes no place that another one has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        yield temporary
        put(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def put(temporary: Path, path: Path) -> None:
    """Rename a file or a folder into its place on the same disk, once all of it is there."""
    for file in temporary.rglob("*") if temporary.is_dir() else ():
        sync(file)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def require_disk(folder: Path, needed_bytes: int, free_bytes: Callable[[Path], int] = free_disk_bytes) -> None:
    """Raise NotEnoughDisk when ``needed_bytes`` more would not fit below ``folder``."""
    free = free_bytes(folder)
    if needed_bytes > free:
        raise NotEnoughDisk(folder, needed_bytes, free)


def sync(path: Path) -> None:
    """Wait until the disk has it. Folders cannot be opened for that on Windows, where the rename is enough."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
