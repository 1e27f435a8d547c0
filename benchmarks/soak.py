"""Thousands of random requests of every kind, good and bad, at once: what breaks, hangs, leaks, or changes bits?

python benchmarks/soak.py MODEL.gguf [--requests N] [--clients N] [--seed N] [--kv-mib N] [--context N]

Little memory for the cache, so that pages are evicted and requests step back; guessing is on. Checks:

ended      each request ends within WATCHDOG_S, with an answer of the form it asked for or the error that is its due
empty      in the end no request holds a page, and none is left when the cache is cleared
exact      some of the requests, alone and with an empty cache, say the same, to the bit of every probability
flat       after the first quarter, what malloc has handed out and not got back grows by at most MOST_GROWTH_BYTES,
           resident memory (with what each thread's arena keeps) by at most MOST_RESIDENT_BYTES; no threads are left
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from madang.core import MadangError, collect, streaming
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import DecoderSpec
from madang.native import NativeEngine
from own_engine import open_engine, options_of, results
from soak_cases import ADAPTERS, Case, Sizes, is_in_form, make_case, sampled_numbers, write_adapter

WATCHDOG_S = 120.0
N_AGAIN = 60
MOST_GROWTH_BYTES = 4 << 20
MOST_RESIDENT_BYTES = 24 << 20
SIZES = Sizes(words=160, answer_tokens=16, too_many_words=1500)


class Hanging(Exception):
    """Requests that did not end in time."""


@dataclass
class Soak:
    """What one run found.

    outcomes   kind of case, and what came of it, to its number
    wrong      sentences about what must not happen
    kept       what the cases answered that are asked again
    resident   (requests that were over, resident bytes)
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    kept: dict[int, Any] = field(default_factory=dict)
    resident: list[tuple[int, int]] = field(default_factory=list)
    n_over: int = 0


class Clients:
    """Threads that take one case after the other, each until it is over."""

    def __init__(self, engine: NativeEngine, folder: Path, soak: Soak, patience_s: float = WATCHDOG_S) -> None:
        self._patience_s = patience_s
        self._engine = engine
        self._folder = folder
        self._soak = soak
        self._lock = threading.Lock()
        self._busy: dict[int, tuple[Case, float]] = {}

    def run(self, cases: Sequence[Case], n_clients: int, again: Sequence[int] = ()) -> None:
        """Returns when all are over. Raises Hanging."""
        todo: queue.SimpleQueue[Case] = queue.SimpleQueue()
        for case in cases:
            todo.put(case)
        kept = frozenset(again)
        threads = [threading.Thread(target=self._work, args=(todo, kept), daemon=True) for _ in range(n_clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            next(thread for thread in threads if thread.is_alive()).join(0.25)
            self._watch()

    def answer(self, case: Case) -> Any:
        """What can be compared of its answer; None for one that the client left."""
        engine, request = self._engine, case.request
        if case.action == "score":
            return engine.score(replace(request, constraint=None), case.continuations)
        if case.action == "foreign":
            return engine.load_adapter(self._folder / "foreign")
        if case.action == "guest":
            with self._guest(case):
                return self._generate(case)
        return self._generate(case)

    @contextmanager
    def _guest(self, case: Case) -> Iterator[None]:
        name = self._engine.load_adapter(self._folder / ADAPTERS[case.number % 2], f"guest {case.number}")
        yield
        self._engine.unload_adapter(name)

    def _generate(self, case: Case) -> Any:
        with streaming(self._engine, case.request) as events:
            if case.leave_after is not None:
                for _ in zip(range(case.leave_after), events, strict=False):
                    time.sleep(0.001 * (case.number % 4))
                return None
            completion = collect(events)
        if not is_in_form(case, completion):
            self._soak.wrong.append(f"{case.number} ({case.kind}) has another form: {completion.text!r}")
        return (
            completion.text,
            completion.logprobs,
            completion.done.finish_reason,
            completion.done.usage.completion_tokens,
        )

    def _work(self, todo: queue.SimpleQueue[Case], kept: frozenset[int]) -> None:
        while True:
            try:
                case = todo.get_nowait()
            except queue.Empty:
                return
            self._busy[threading.get_ident()] = case, time.monotonic()
            outcome = self._one(case, keep=case.number in kept)
            with self._lock:
                self._busy.pop(threading.get_ident())
                self._soak.outcomes[case.kind, outcome] += 1
                self._soak.n_over += 1

    def _one(self, case: Case, *, keep: bool) -> str:
        """In a word or the error's name, what came of it."""
        try:
            found = self.answer(case)
        except MadangError as error:
            if type(error) is not case.error:
                self._soak.wrong.append(f"{case.number} ({case.kind}) got {type(error).__name__}: {error}")
            return type(error).__name__
        except BaseException as error:
            self._soak.wrong.append(f"{case.number} ({case.kind}) got {error!r}")
            return repr(error)
        if case.error is not None:
            self._soak.wrong.append(f"{case.number} ({case.kind}) should have raised {case.error.__name__}")
        if keep:
            self._soak.kept[case.number] = found
        return "left" if found is None else "answered"

    def _watch(self) -> None:
        self._soak.resident.append((self._soak.n_over, resident_bytes()))
        late = [case for case, since in list(self._busy.values()) if time.monotonic() - since > self._patience_s]
        if late:
            faulthandler.dump_traceback()
            raise Hanging(
                f"after {self._patience_s:.0f} s still at work: {', '.join(f'{c.number} ({c.kind})' for c in late)}"
            )


def soak(
    engine: NativeEngine, spec: DecoderSpec, folder: Path, sizes: Sizes, options: argparse.Namespace
) -> dict[str, Any]:
    """Run ``options.requests`` cases with ``options.clients`` threads; the figures, and the checks by name."""
    found = Soak()
    clients = Clients(engine, folder, found)
    for number, name in enumerate(ADAPTERS):
        engine.load_adapter(write_adapter(folder / name, spec, number))
    write_adapter(folder / "foreign", spec, 9, wrong_by=1)
    cases = [make_case(options.seed, number, sizes) for number in range(options.requests)]
    again = sampled_numbers(options.seed, options.requests, N_AGAIN)
    n_warm = options.requests // 4
    started = time.perf_counter()
    clients.run(cases[:n_warm], options.clients, again)
    warm = _settled()
    clients.run(cases[n_warm:], options.clients, again)
    end = _settled()
    seconds = time.perf_counter() - started
    usage = engine.cache_usage()
    different = [number for number in sorted(found.kept) if _differs_alone(engine, clients, cases[number], found)]
    engine.clear_cache()
    last = engine.cache_usage()
    return {
        "seconds": seconds,
        "outcomes": {f"{kind}: {outcome}": n for (kind, outcome), n in sorted(found.outcomes.items())},
        "wrong": found.wrong[:50],
        "cache": asdict(usage),
        "asked_again": len(found.kept),
        "different_alone": different,
        "memory": {"after_warm_up": warm, "end": end, **_trend(found.resident, n_warm)},
        "checks": {
            "ended": not found.wrong and found.n_over == options.requests,
            "empty": usage.held_pages == last.held_pages == last.idle_pages == 0,
            "exact": bool(found.kept) and not different,
            "flat": end["allocated_bytes"] - warm["allocated_bytes"] <= MOST_GROWTH_BYTES
            and end["resident_bytes"] - warm["resident_bytes"] <= MOST_RESIDENT_BYTES
            and end["threads"] == warm["threads"],
        },
    }


def _differs_alone(engine: NativeEngine, clients: Clients, case: Case, found: Soak) -> bool:
    engine.clear_cache()
    return bool(clients.answer(case) != found.kept[case.number])


def resident_bytes() -> int:
    """Of this process; 0 where there is no /proc."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if path.exists() else 0


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2, see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905
    ]


def allocated_bytes(libc: ctypes.CDLL) -> int:
    """What malloc has handed out, mapped blocks included; 0 where it does not tell."""
    if not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = _MallInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _settled() -> dict[str, int]:
    """What is really held: garbage collected, and freed memory in malloc's arenas given back to the system."""
    gc.collect()
    before = resident_bytes()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    return {
        "resident_bytes": resident_bytes(),
        "in_free_lists_bytes": before - resident_bytes(),
        "allocated_bytes": allocated_bytes(libc),
        "python_blocks": sys.getallocatedblocks(),
        "threads": threading.active_count(),
    }


def _trend(samples: Sequence[tuple[int, int]], n_warm: int) -> dict[str, float]:
    """Resident memory by requests after the warm-up, as the system saw it: its slope and range."""
    numbers, sizes = zip(*[sample for sample in samples if sample[0] > n_warm] or [(0, 0)], strict=True)
    slope = statistics.linear_regression(numbers, sizes).slope if len(set(numbers)) > 1 else 0.0
    return {"bytes_per_1000_requests": 1000 * slope, "max_minus_min_bytes": max(sizes) - min(sizes)}


def show(document: dict[str, Any]) -> None:
    """What came of it."""
    for name, n in document["outcomes"].items():
        print(f"{n:6}  {name}")
    for sentence in document["wrong"]:
        print(f"WRONG   {sentence}")
    cache, memory = document["cache"], document["memory"]
    print(
        f"cache   {cache['found_tokens'] / cache['asked_tokens']:.0%} of tokens found, "
        f"{cache['evicted_pages']} pages evicted, {cache['step_backs']} step backs, limit {cache['limit_pages']} pages"
    )
    growth, allocated = (
        memory["end"][kind] - memory["after_warm_up"][kind] for kind in ("resident_bytes", "allocated_bytes")
    )
    print(
        f"memory  {memory['end']['resident_bytes'] / 2**20:.0f} MiB, {growth / 2**20:+.1f} since the warm-up, "
        f"{allocated / 2**10:+.0f} KiB of malloc's; "
        f"before trimming {memory['bytes_per_1000_requests'] / 2**20:+.2f} MiB per 1,000 requests, max - min "
        f"{memory['max_minus_min_bytes'] / 2**20:.1f} MiB"
    )
    print(f"alone   {document['asked_again']} asked again, {len(document['different_alone'])} differ")
    print(f"{document['seconds']:.0f} s; " + ", ".join(f"{name}: {ok}" for name, ok in document["checks"].items()))


def main(arguments: Sequence[str]) -> int:
    """Run, print, write; 1 when a check fails."""
    numbers = {"requests": 5000, "clients": 16, "seed": 0, "kv_mib": 32, "context": 1024}
    options = options_of("soak", arguments, __doc__ or "", **numbers)
    spec = describe_gguf(read_gguf(options.model)).spec
    settings: dict[str, str | int] = {
        "context": options.context,
        "kv_memory": options.kv_mib << 20,
        "speculation": "ngram",
    }
    with results(options) as document, tempfile.TemporaryDirectory() as folder:
        with closing(open_engine(options, **settings)) as engine:
            document |= soak(engine, spec, Path(folder), SIZES, options)
        show(document)
    return 0 if all(document["checks"].values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
