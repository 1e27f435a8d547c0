"""Several threads, one engine: nobody waits for ever, nobody's trouble is another's, and in the end nothing is left."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from madang.core import Request, SamplingParams, collect, streaming
from madang.core.errors import EngineError, InvalidRequest, MadangError, UnknownOption
from madang.core.request import AdapterChoice
from madang.native import NativeEngine, load
from tests.formats.adapters.files import random_adapter, write_peft
from tests.native.conftest import OpenEngine, as_files, as_plan
from tests.native.test_engine import HOT, ask, same
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint

TIMEOUT_S = 60


def pages_in_use(engine: NativeEngine) -> int:
    """Beside those that the prefix tree keeps for later."""
    return engine.cache_usage().held_pages


def test_sixteen_threads_each_get_their_own_answer(open_engine: OpenEngine) -> None:
    engine = open_engine(concurrency=5)
    assert engine.info.max_concurrency == 5
    texts = [f"thread-{number}" for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: ask(engine, text, 20), texts, timeout=TIMEOUT_S))
    assert all(same(answer, ask(open_engine(), text, 20)) for text, answer in zip(texts, answers, strict=True))
    assert pages_in_use(engine) == 0


def test_a_chat_goes_on_while_a_long_prompt_is_read(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=1024, chunk=16)
    events = engine.generate(Request(prompt="chat", max_tokens=400, sampling=HOT))
    next(events)
    long = engine.generate(Request(prompt="x" * 900, max_tokens=1, sampling=HOT))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, long)
        while not reading.done():
            if next(events, None) is None:
                break
        reading.result(TIMEOUT_S)
    long.close()  # type: ignore[attr-defined]
    events.close()  # type: ignore[attr-defined]
    assert pages_in_use(engine) == 0


def test_the_time_in_the_queue_is_told(open_engine: OpenEngine) -> None:
    engine = open_engine(concurrency=1, context_tokens=512)
    requests = [Request(prompt=f"{n}", max_tokens=100, sampling=HOT) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda request: collect(engine.generate(request)).done, requests, timeout=TIMEOUT_S))
    waits = sorted(one.timings.queue_s for one in done)
    assert waits[0] < waits[1] < waits[2]
    for one in done:
        assert one.timings.time_to_first_token_s >= one.timings.queue_s + one.timings.prompt_s


@pytest.mark.parametrize("n_read", [0, 1, 5])
def test_leaving_frees_the_pages(open_engine: OpenEngine, n_read: int) -> None:
    engine = open_engine(context_tokens=1024)
    for _ in range(3):
        with streaming(engine, Request(prompt="x" * 300, max_tokens=500, sampling=HOT)) as events:
            for _ in range(n_read):
                next(events)
    assert pages_in_use(engine) == 0
    assert not engine._worker.ask(lambda scheduler: scheduler.is_busy)


def test_an_interrupted_reader_leaves_the_engine_whole(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=1024)
    with pytest.raises(KeyboardInterrupt):
        for _ in engine.generate(Request(prompt="x", max_tokens=500, sampling=HOT)):
            raise KeyboardInterrupt
    assert pages_in_use(engine) == 0
    assert same(ask(engine, "next"), ask(open_engine(), "next"))


def test_closing_ends_every_stream(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=1024, concurrency=2)
    started = threading.Barrier(5)

    def run(number: int) -> str:
        events = engine.generate(Request(prompt=f"{number}", max_tokens=1000, sampling=HOT))
        if number < 2:
            next(events)
        started.wait(TIMEOUT_S)
        try:
            collect(events)
        except EngineError as error:
            return error.message
        return "ended by itself"

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run, number) for number in range(4)]
        started.wait(TIMEOUT_S)
        engine.close()
        messages = [run.result(TIMEOUT_S) for run in runs]
    assert set(messages) <= {"The engine of tiny is closed.", "ended by itself"}
    with pytest.raises(EngineError, match="closed"):
        ask(engine, "more")


def test_numbers_that_overflow_end_the_request_and_not_the_engine(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(MODEL, tmp_path / "tiny.gguf")
    adapter = write_peft(random_adapter(checkpoint.weights, 1, alpha=1e38), tmp_path / "adapter")
    overflowing = AdapterChoice("adapter", scale=100)
    with closing(load(as_files(checkpoint.path), as_plan())) as engine:
        engine.load_adapter(adapter)
        with ThreadPoolExecutor(4) as pool:
            good = [pool.submit(ask, engine, f"good{n}", 20) for n in range(3)]
            request = Request(prompt="bad", max_tokens=20, adapter=overflowing)
            bad = pool.submit(lambda: collect(engine.generate(request)))
            with pytest.raises(EngineError, match="not finite numbers"):
                bad.result(TIMEOUT_S)
            assert [answer.result(TIMEOUT_S).text for answer in good]
        with pytest.raises(EngineError, match="not finite numbers"):
            engine.score(Request(prompt="bad", adapter=overflowing), ["x"])
        assert pages_in_use(engine) == 0


def test_a_bias_on_a_token_that_does_not_exist_is_refused_before_anything_is_computed(open_engine: OpenEngine) -> None:
    engine = open_engine()
    with pytest.raises(InvalidRequest, match="logit_bias"):
        ask(engine, "x", sampling=SamplingParams(logit_bias={10**6: 1.0}))
    assert ask(engine, "next").text


def test_an_adapter_that_is_not_loaded_is_refused(open_engine: OpenEngine) -> None:
    with pytest.raises(UnknownOption, match="adapter"):
        next(open_engine().generate(Request(prompt="x", adapter=AdapterChoice("poet"))))


def test_a_question_that_fails_fails_where_it_was_asked(open_engine: OpenEngine) -> None:
    engine = open_engine()
    with pytest.raises(ZeroDivisionError):
        engine._worker.ask(lambda scheduler: 1 // 0)
    assert ask(engine, "next").text


def test_an_engine_that_is_forgotten_ends_its_thread(tiny_gguf: Path) -> None:
    engine = load(as_files(tiny_gguf), as_plan())
    assert ask(engine, "x").text
    (thread,) = [thread for thread in threading.enumerate() if thread is engine._worker._thread]
    del engine
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def test_a_program_may_end_while_its_engine_computes(tiny_gguf: Path) -> None:
    script = f"""
from pathlib import Path
from madang.core import Request
from madang.native import load
from tests.native.conftest import as_files, as_plan
engine = load(as_files(Path({str(tiny_gguf)!r})), as_plan(context_tokens=1024))
events = engine.generate(Request(prompt="x", max_tokens=1000))
next(events)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, timeout=TIMEOUT_S, capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")


def test_a_crowd_of_everything_leaves_nothing_behind(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=256, n_pages=30, concurrency=4, speculation="ngram", chunk=32)
    chance = random.Random(0)
    seeds = [chance.randrange(2**30) for _ in range(200)]

    def one(seed: int) -> None:
        mine = random.Random(seed)
        request = Request(
            prompt="abc"[: mine.randrange(4)] * mine.randrange(1, 110),
            max_tokens=mine.randrange(30),
            sampling=SamplingParams(temperature=mine.random(), seed=seed),
            priority=mine.choice(("chat", "background")),
        )
        with suppress(MadangError):
            if mine.random() < 0.2:
                engine.score(request, ["a", "bcd"])
            elif mine.random() < 0.3:
                with streaming(engine, request) as events:
                    next(events)
            else:
                collect(engine.generate(request))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, seeds, timeout=TIMEOUT_S))
    assert pages_in_use(engine) == 0
    engine.clear_cache()
    assert engine.cache_usage().idle_pages == 0
