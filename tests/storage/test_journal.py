"""Writing that nobody waits for: in order, again when it failed, and bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from madang.core.errors import NotFound, StorageError
from madang.storage import Journal

LONG_S = 20.0


class Disk:
    """Takes entries while it works; ``tried`` is set when one is refused."""

    def __init__(self) -> None:
        self.works = True
        self.taken: list[int] = []
        self.tried = threading.Event()

    def entry(self, n: int) -> None:
        if not self.works:
            self.tried.set()
            raise StorageError("The disk is full.")
        self.taken.append(n)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal(most_waiting=5, retry_s=0.01)
    yield journal
    journal.close()


def test_entries_are_written_in_order(journal: Journal, disk: Disk) -> None:
    for n in range(5):
        journal.add(lambda n=n: disk.entry(n))  # type: ignore[misc]
    assert journal.settle(LONG_S)
    assert disk.taken == [0, 1, 2, 3, 4]
    assert (journal.n_waiting, journal.n_lost) == (0, 0)


def test_what_is_refused_waits_and_nobody_waits_for_it(journal: Journal, disk: Disk) -> None:
    disk.works = False
    journal.add(lambda: disk.entry(1))
    assert disk.tried.wait(LONG_S)
    assert not journal.settle(LONG_S)
    journal.add(lambda: disk.entry(2))
    disk.works = True
    while journal.n_waiting:
        journal.settle(LONG_S)
    assert disk.taken == [1, 2]
    assert journal.n_lost == 0


def test_only_so_much_waits_and_the_oldest_is_lost(disk: Disk) -> None:
    journal = Journal(most_waiting=5, retry_s=LONG_S)
    disk.works = False
    for n in range(20):
        journal.add(lambda n=n: disk.entry(n))  # type: ignore[misc]
        assert disk.tried.wait(LONG_S)
    assert journal.n_waiting <= 6
    disk.works = True
    journal.close(LONG_S)
    assert disk.taken[-1] == 19
    assert len(disk.taken) + journal.n_lost == 20


def test_memory_is_bounded_in_bytes_too(disk: Disk) -> None:
    journal = Journal(most_waiting=100, most_waiting_bytes=1000, retry_s=LONG_S)
    disk.works = False
    for n in range(20):
        journal.add(lambda n=n: disk.entry(n), n_bytes=300)  # type: ignore[misc]
        assert disk.tried.wait(LONG_S)
    journal.add(lambda: disk.entry(99), n_bytes=2000)  # more than there may be at all
    assert journal.n_waiting <= 1
    disk.works = True
    journal.close(LONG_S)
    assert 99 not in disk.taken
    assert len(disk.taken) + journal.n_lost == 21


@pytest.mark.parametrize("error", [NotFound("session", "ses_1"), RuntimeError("a fault")])
def test_what_can_never_be_written_holds_up_nothing(journal: Journal, disk: Disk, error: Exception) -> None:
    def fails() -> None:
        raise error

    journal.add(fails)
    journal.add(lambda: disk.entry(1))
    assert journal.settle(LONG_S)
    assert (disk.taken, journal.n_lost) == ([1], 1)


def test_closing_writes_what_waits_and_gives_up_what_cannot_be_written(disk: Disk) -> None:
    journal = Journal(retry_s=LONG_S)
    journal.add(lambda: disk.entry(1))
    journal.close()
    assert disk.taken == [1]
    journal.add(lambda: disk.entry(2))
    assert journal.n_lost == 1
    stuck = Journal(retry_s=LONG_S)
    disk.works = False
    stuck.add(lambda: disk.entry(3))
    assert disk.tried.wait(LONG_S)
    stuck.close(LONG_S)
    assert (stuck.n_lost, stuck.n_waiting) == (1, 0)
