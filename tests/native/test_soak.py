"""The soak of benchmarks/soak.py, short; and that each of its checks fails where there is something to find."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madang.core import Event, Request
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.native import NativeEngine
from tests.native.conftest import OpenEngine

SEED = 5
HOARDED_BYTES = 256 << 10  # a request


@pytest.fixture(autouse=True)
def _scripts_import_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def run(engine: Any, tiny_gguf: Path, folder: Path, *, requests: int = 60, **sizes: int) -> dict[str, Any]:
    """The document of a soak with small requests."""
    from soak import soak
    from soak_cases import Sizes

    options = argparse.Namespace(requests=requests, clients=12, seed=SEED)
    chosen = Sizes(**{"words": 24, "answer_tokens": 16, "too_many_words": 300, **sizes})
    return soak(engine, describe_gguf(read_gguf(tiny_gguf)).spec, folder, chosen, options)


class Faulty:
    """An engine with a fault: everything but ``generate`` is that of the one inside."""

    def __init__(self, engine: NativeEngine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, request: Request) -> Iterator[Event]:
        """What the fault makes of it."""
        raise NotImplementedError


class Wavering(Faulty):
    """Each answer is drawn with a seed of its own."""

    n = 0

    def generate(self, request: Request) -> Iterator[Event]:
        self.n += 1
        sampling = replace(request.sampling, seed=self.n, temperature=2.0)
        return self.engine.generate(replace(request, sampling=sampling))


class Hoarding(Faulty):
    """Remembers something of every request."""

    def __init__(self, engine: NativeEngine) -> None:
        super().__init__(engine)
        self.hoard: list[bytearray] = []

    def generate(self, request: Request) -> Iterator[Event]:
        self.hoard.append(bytearray(HOARDED_BYTES))
        return self.engine.generate(request)


class Stuck(Faulty):
    """Never answers, until it is told to go."""

    def __init__(self, engine: NativeEngine) -> None:
        super().__init__(engine)
        self.go = threading.Event()

    def generate(self, request: Request) -> Iterator[Event]:
        self.go.wait()
        return self.engine.generate(request)


def test_a_short_soak_leaves_nothing_wrong(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    from soak_cases import KINDS

    engine = open_engine(context_tokens=640, n_pages=44, concurrency=8, speculation="ngram", chunk=64)
    document = run(engine, tiny_gguf, tmp_path, requests=600)
    assert document["wrong"] == []
    assert document["different_alone"] == []
    assert all(document["checks"].values()), document
    assert {name.split(":")[0] for name in document["outcomes"]} == set(KINDS)
    assert min(document["cache"][name] for name in ("found_tokens", "evicted_pages", "step_backs")) > 0


def test_an_answer_where_an_error_is_due_is_seen(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    engine = open_engine(context_tokens=400)
    document = run(engine, tiny_gguf, tmp_path, answer_tokens=4, too_many_words=1)  # which is not too long
    assert any("too long" in sentence for sentence in document["wrong"])
    assert not document["checks"]["ended"]


def test_a_request_that_hangs_is_seen(open_engine: OpenEngine, tmp_path: Path) -> None:
    from soak import Clients, Hanging, Soak
    from soak_cases import Case

    stuck = Stuck(open_engine())
    clients = Clients(stuck, tmp_path, Soak(), patience_s=0.1)  # type: ignore[arg-type]
    with pytest.raises(Hanging, match=r"still at work: 7 \(raw\)"):
        clients.run([Case(7, "raw", Request(prompt="x", max_tokens=1))], n_clients=1)
    stuck.go.set()


def test_a_page_that_nobody_gives_back_is_seen(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    engine = open_engine(context_tokens=640)
    engine._worker.ask(lambda scheduler: scheduler.cache.pool.allocate(1))
    checks = run(engine, tiny_gguf, tmp_path)["checks"]
    assert (checks["ended"], checks["empty"], checks["exact"]) == (True, False, True)


def test_answers_that_do_not_repeat_are_seen(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    document = run(Wavering(open_engine(context_tokens=640)), tiny_gguf, tmp_path)
    assert document["different_alone"]
    checks = document["checks"]
    assert (checks["ended"], checks["empty"], checks["exact"]) == (True, True, False)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory is held is known on Linux only")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer's own malloc does not tell")
def test_memory_that_grows_with_requests_is_seen(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    from soak import MOST_GROWTH_BYTES

    hoarding = Hoarding(open_engine(context_tokens=640))
    checks = run(hoarding, tiny_gguf, tmp_path)["checks"]
    assert len(hoarding.hoard) * HOARDED_BYTES > 2 * MOST_GROWTH_BYTES
    assert not checks["flat"]
