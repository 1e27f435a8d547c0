"""One SQLite file for any number of threads: short transactions, and failures that are sentences.

Write-ahead logging lets readers go on while somebody writes, here or in another process; there is a connection for
each of the two, and threads take turns at it. ``synchronous=NORMAL`` may lose the last transactions when the power
fails, and never damages the file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TypeVar

from madang.core.errors import StorageError
from madang.storage.migrations import MIGRATIONS, Migration, migrate

T = TypeVar("T")

DATABASE_FILE = "madang.db"
WRITE_PATIENCE_S = 5.0  # that a write waits for other processes
READ_PATIENCE_S = 1.0

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SENTENCES = {
    sqlite3.SQLITE_BUSY: "The database is locked by another program.",
    sqlite3.SQLITE_LOCKED: "The database is locked by another program.",
    sqlite3.SQLITE_FULL: "The disk is full: the database cannot grow.",
    sqlite3.SQLITE_IOERR: "The disk does not take what is written to the database.",
    sqlite3.SQLITE_READONLY: "The database can only be read.",
    sqlite3.SQLITE_PERM: "The database can only be read.",
    sqlite3.SQLITE_CANTOPEN: "The database cannot be opened.",
}
# A connection that met one of these is opened again for the next transaction.
_LASTING = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    """A connection and whose turn it is.

    inode     of the file that it was opened on
    trouble   why its last transaction failed, if it did
    """

    patience_s: float
    lock: Lock = field(default_factory=Lock)
    connection: sqlite3.Connection | None = None
    inode: int | None = None
    trouble: str | None = None

    def close(self) -> None:
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None


class Database:
    """The database at ``path``, opened when it is first used. A second process may use the same file.

    notice    what happened to the file since it was opened, if it had to be replaced
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Migration] = MIGRATIONS,
        write_patience_s: float = WRITE_PATIENCE_S,
        read_patience_s: float = READ_PATIENCE_S,
        max_pages: int | None = None,
    ) -> None:
        """``max_pages`` is the most that the file may have, of 4096 bytes; None is what the disk has."""
        self.path = path
        self.notice: str | None = None
        self._migrations = migrations
        self._max_pages = max_pages
        self._writer, self._reader = _Line(write_patience_s), _Line(read_patience_s)

    @property
    def trouble(self) -> str | None:
        """Why the last write or read failed, until one succeeds again; for people, without paths."""
        return self._writer.trouble or self._reader.trouble

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` finds, all of it from one moment. Raises StorageError."""
        return self._run(self._reader, "BEGIN", work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it whole or not at all; errors that are not the database's pass. Raises StorageError."""
        return self._run(self._writer, "BEGIN IMMEDIATE", work)

    def close(self) -> None:
        """Give the file back; a later transaction opens it again."""
        with self._writer.lock, self._reader.lock:
            self._reader.close()
            self._writer.close()

    def _run(self, line: _Line, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            try:
                result = self._attempt(line, begin, work)
            except _Damaged as damage:
                self._put_aside(damage.inode)
                result = self._attempt(line, begin, work)
        except _Damaged as damage:
            raise self._failed(line, StorageError("The database is damaged.")) from damage
        except StorageError as error:
            raise self._failed(line, error) from error.__cause__
        if line.trouble is not None:
            _log.warning("The database works again.", extra={"database": str(self.path)})
            line.trouble = None
        return result

    def _failed(self, line: _Line, error: StorageError) -> StorageError:
        if self.trouble != error.message:
            _log.warning(error.message, extra={"database": str(self.path)})
        line.trouble = error.message
        return error

    def _attempt(self, line: _Line, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        with line.lock:
            try:
                if line.connection is None:
                    self._open(line)
                assert line.connection is not None
                return _transact(line.connection, begin, work)
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise
            except sqlite3.Error as error:
                code = _primary(error)
                if code in _DAMAGED:
                    raise _Damaged(line.inode) from error
                if code in _LASTING:
                    line.close()
                raise StorageError(_SENTENCES.get(code, f"The database failed: {error}.")) from error
            except OSError as error:
                raise StorageError(f"The database cannot be opened: {error.strerror}.") from error

    def _open(self, line: _Line) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # nobody else is to read what people say, from the first byte on
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        line.inode = self.path.stat().st_ino
        connection = sqlite3.connect(
            self.path, timeout=line.patience_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.row_factory = sqlite3.Row
            migrate(connection, self._migrations)  # first: what is not ours is not changed in any way
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            if self._max_pages is not None:
                connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        except BaseException:
            connection.close()
            raise
        line.connection = connection

    def _put_aside(self, inode: int | None) -> None:
        """Rename the damaged file, unless somebody has done so already, and begin a new one."""
        with self._writer.lock, self._reader.lock:
            self._reader.close()
            self._writer.close()
            try:
                if self.path.stat().st_ino != inode:
                    return
                kept = _free_name(self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"))
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        self.path.with_name(self.path.name + suffix).rename(kept.with_name(kept.name + suffix))
            except OSError as error:
                raise StorageError(f"The database is damaged, and cannot be renamed: {error.strerror}.") from error
        self.notice = f"The database was damaged; it was kept as {kept.name}, and a new one was begun."
        _log.warning(self.notice, extra={"database": str(self.path)})


class _Damaged(Exception):
    """The file on this inode holds nonsense."""

    def __init__(self, inode: int | None) -> None:
        super().__init__("damaged")
        self.inode = inode


def _transact(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return result


def _primary(error: sqlite3.Error) -> int:
    """The code without what SQLite adds to it."""
    return (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF


def _free_name(path: Path) -> Path:
    name, n = path, 1
    while name.exists():
        name, n = path.with_name(f"{path.name}-{n}"), n + 1
    return name
