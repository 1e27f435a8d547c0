"""One file for many threads and processes: what it survives, and in which words it fails."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from madang.core.errors import StorageError
from madang.storage import Database
from madang.storage.migrations import MIGRATIONS, Migration

FIRST: Migration = ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",)
SECOND: Migration = ("ALTER TABLE notes ADD COLUMN mood TEXT", "UPDATE notes SET mood = 'old'")
BROKEN: Migration = ("ALTER TABLE notes ADD COLUMN colour TEXT", "INSERT INTO nowhere VALUES (1)")


def notes(path: Path, *migrations: Migration, max_pages: int | None = None) -> Database:
    return Database(
        path, migrations=migrations or (FIRST,), write_patience_s=0.05, read_patience_s=0.05, max_pages=max_pages
    )


def add(database: Database, text: str) -> None:
    database.write(lambda connection: connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)))


def texts(database: Database) -> list[str]:
    return database.read(lambda connection: [row["text"] for row in connection.execute("SELECT text FROM notes")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "madang.db"


def test_nothing_is_made_before_it_is_used(path: Path) -> None:
    database = notes(path)
    assert not path.exists()
    add(database, "one")
    assert texts(database) == ["one"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database.close()
    assert texts(database) == ["one"]


def test_a_transaction_is_whole_or_not_there(path: Path) -> None:
    database = notes(path)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES ('half')")
        raise KeyError

    with pytest.raises(KeyError):
        database.write(half)
    assert texts(database) == []
    assert database.trouble is None


def test_an_older_database_is_brought_up_to_date(path: Path) -> None:
    old = notes(path)
    add(old, "before")
    old.close()
    new = notes(path, FIRST, SECOND)
    assert new.read(lambda connection: connection.execute("SELECT mood FROM notes").fetchone()[0]) == "old"


def test_a_step_that_fails_leaves_the_old_version(path: Path) -> None:
    old = notes(path)
    add(old, "before")
    old.close()
    with pytest.raises(StorageError):
        texts(notes(path, FIRST, SECOND, BROKEN))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
        assert [column[1] for column in connection.execute("PRAGMA table_info(notes)")] == ["id", "text"]


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    newer = notes(path, FIRST, SECOND)
    add(newer, "from tomorrow")
    newer.close()
    with pytest.raises(StorageError, match="version 2, which a newer madang wrote; this one knows 1"):
        texts(notes(path))
    assert texts(notes(path, FIRST, SECOND)) == ["from tomorrow"]


def test_the_file_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        texts(notes(path))
    assert path.read_bytes() == before


def test_every_released_step_stays_as_it_is(path: Path) -> None:
    assert Database(path).read(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0]) == 4
    assert len(MIGRATIONS) == 4


def test_many_threads(path: Path) -> None:
    database = Database(path, migrations=(FIRST,))
    threads = [threading.Thread(target=lambda: [add(database, "x") for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(database)) == 200


@pytest.mark.parametrize("damage", ["no database", "empty pages", "half a file"])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(path: Path, damage: str) -> None:
    database = notes(path)
    for i in range(200):
        add(database, f"{i} " * 200)
    database.close()
    whole = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"something else entirely" * 1000)
    elif damage == "empty pages":
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    else:
        path.write_bytes(whole[: len(whole) // 2])
    damaged = path.read_bytes()
    again = notes(path)
    add(again, "after")
    assert texts(again) == ["after"]
    (kept,) = [file for file in path.parent.iterdir() if ".damaged-" in file.name and not file.name.endswith("-shm")]
    assert kept.read_bytes()[100:] == damaged[100:]
    assert again.notice is not None
    assert kept.name in again.notice
    assert again.trouble is None


def test_damage_while_it_is_open(path: Path) -> None:
    database = notes(path)
    for i in range(200):
        add(database, f"{i} " * 200)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    add(database, "after")
    assert texts(database) == ["after"]
    assert len(list(path.parent.glob("*.damaged-*"))) >= 1


def test_two_damaged_files_of_one_second_are_both_kept(path: Path) -> None:
    path.parent.mkdir()
    database = notes(path)
    for i in range(3):
        path.write_bytes(b"%d is no database" % i * 500)
        assert texts(database) == []
        database.close()
    assert len([file for file in path.parent.glob("*.damaged-*") if file.name[-4:] not in ("-wal", "-shm")]) == 3


OPENER = """
import sys
from pathlib import Path
from madang.storage import Database, Run, Runs
from datetime import UTC, datetime
sys.stdin.read()
runs = Runs(Database(Path(sys.argv[1])))
for _ in range(20):
    runs.add(Run(model="m", status="done", started_at=datetime.now(UTC)))
"""


def test_many_processes_that_begin_at_once(path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    count = "SELECT count(*) FROM runs"
    assert Database(path).read(lambda connection: connection.execute(count).fetchone()[0]) == 80


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate()


def test_another_process_that_writes_holds_up_writers_only(path: Path) -> None:
    database = notes(path)
    add(database, "before")
    with locked_by_another_process(path):
        with pytest.raises(StorageError, match="locked by another program"):
            add(database, "meanwhile")
        assert database.trouble is not None
        assert texts(database) == ["before"]
    add(database, "after")
    assert texts(database) == ["before", "after"]
    assert database.trouble is None


def make_read_only(path: Path) -> None:
    """A write version that SQLite does not know makes a file read-only, for the superuser too."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")


def test_a_database_that_can_only_be_read(path: Path) -> None:
    database = notes(path)
    add(database, "before")
    database.close()
    make_read_only(path)
    with pytest.raises(StorageError, match="only be read"):
        add(database, "meanwhile")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_file_without_the_permission_to_write(path: Path) -> None:
    database = notes(path)
    add(database, "before")
    database.close()
    path.chmod(0o400)
    with pytest.raises(StorageError, match="only be read"):
        add(database, "meanwhile")


def test_a_home_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StorageError, match="cannot be opened"):
        texts(notes(tmp_path / "home" / "madang.db"))


def test_a_full_disk(path: Path) -> None:
    database = notes(path, max_pages=8)
    with pytest.raises(StorageError, match="disk is full"):
        for i in range(1000):
            add(database, f"{i} " * 200)
    kept = len(texts(database))
    assert kept > 0
    with pytest.raises(StorageError, match="disk is full"):
        add(database, "x" * 10_000)
    database.write(lambda connection: connection.execute("DELETE FROM notes"))
    add(database, "there is room again")
    assert texts(database) == ["there is room again"]


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_bytes(path: Path) -> None:
    database = notes(path)
    add(database, "before")
    with no_file_larger_than(100_000), pytest.raises(StorageError, match="disk"):
        add(database, "x" * 200_000)
    add(database, "after")
    assert texts(database) == ["before", "after"]
