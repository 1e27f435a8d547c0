"""Threads that are used again, or not any more."""

from __future__ import annotations

import threading

from madang.server.threads import Threads


def ran_in(threads: Threads) -> threading.Thread:
    """The thread that some work ran in."""
    found: list[threading.Thread] = []
    done = threading.Event()

    def work() -> None:
        found.append(threading.current_thread())
        done.set()

    threads.run(work)
    assert done.wait(30)
    return found[0]


def test_any_number_of_works_runs_at_once() -> None:
    threads, together = Threads(), threading.Barrier(21, timeout=30)
    for _ in range(20):
        threads.run(together.wait)
    together.wait()


def test_an_idle_thread_takes_the_next_work() -> None:
    threads = Threads()
    used = {ran_in(threads) for _ in range(200)}
    assert len(used) < 200


def test_a_thread_without_work_ends() -> None:
    threads = Threads(idle_s=0.01)
    thread = ran_in(threads)
    thread.join(30)
    assert not thread.is_alive()
    assert ran_in(threads) is not thread
