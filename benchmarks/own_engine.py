"""Our engine inside a benchmark's own process: opening it, and the document that its figures go into."""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import CpuTime, describe_checkout, describe_machine, physical_cores
from madang.core import Done, Engine, Event, Request, SamplingParams
from madang.core.settings import load_settings
from madang.native import NativeEngine
from madang.runtime import open_model
from measurement import REPOSITORY
from peers import describe_model, free_result_path, recorded_command, save

DATA = Path(os.environ.get("MADANG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
GREEDY = SamplingParams(temperature=0)


def options_of(
    script: str, arguments: Sequence[str], description: str, *, name: str | None = None, **numbers: int
) -> argparse.Namespace:
    """Read the options that all these benchmarks have, and ``numbers`` of its own with their defaults.

    ``name`` is that of its results, where it is not the script's. A missing model file is a usage error.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--name", default=name or script, help="results/<date>-<name>.json")
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args(arguments)
    if not options.model.is_file():
        parser.error(f"no file {options.model}")
    options.command = recorded_command(arguments).replace("peers.py", f"{script}.py")
    return options


def open_engine(options: argparse.Namespace, **settings: str | int) -> NativeEngine:
    """Load the model; the caller closes the engine."""
    chosen = load_settings({"threads": options.threads, "engine": "native", **settings}, {})
    engine: Engine = open_model(f"file:{options.model.resolve()}", chosen)
    assert isinstance(engine, NativeEngine)
    return engine


def _own_s() -> float:
    """Of processors, by this process and those that it began and saw end."""
    return sum(os.times()[:4])


@contextmanager
def results(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A document to fill; written when the block is left. Others' CPU time says how quiet the machine was."""
    document: dict[str, Any] = {
        "command": options.command,
        "date": datetime.date.today().isoformat(),
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
        "load_average_1m": os.getloadavg()[0],
        "model": describe_model(options.model),
        "threads": options.threads,
        "rounds": options.rounds,
    }
    before, own_before, started = CpuTime.now(), _own_s(), time.perf_counter()
    yield document
    after = CpuTime.now()
    if before is not None and after is not None:
        busy_s = after.busy_s - before.busy_s - (_own_s() - own_before)
        document["others_cpu_share"] = busy_s / (time.perf_counter() - started) / (os.cpu_count() or 1)
        print(f"other processes took {document['others_cpu_share']:.0%} of the machine")
    path = free_result_path(options.name)
    save(document, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    found = sorted(values)
    return {"median": statistics.median(found), "min": found[0], "max": found[-1]}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """The 50th, 95th and 99th, and the highest."""
    found = sorted(values)
    return {f"p{p}": found[min(len(found) * p // 100, len(found) - 1)] for p in (50, 95, 99)} | {"max": found[-1]}


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread of its own; returns what they return, in order."""
    found: list[Any] = [None] * len(jobs)

    def run(number: int) -> None:
        found[number] = jobs[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def done_of(events: Iterable[Event]) -> Done:
    """Read the whole stream; returns its end."""
    *_, last = events
    assert isinstance(last, Done)
    return last


def article(n_characters: int, number: int = 0) -> str:
    """So many characters of Wikipedia, another part for each number."""
    text = (DATA / "english" / "wikitext2_test.txt").read_text(encoding="utf-8")
    begin = text.index("\n", number * n_characters % (len(text) - 2 * n_characters)) + 1
    return text[begin : begin + n_characters]


def plain(prompt: str, max_tokens: int) -> Request:
    """A raw prompt, answered greedily."""
    return Request(prompt=prompt, max_tokens=max_tokens, sampling=GREEDY)
