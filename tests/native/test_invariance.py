"""The same request with the same seed has the same tokens and log-probabilities, to the bit, whatever is around it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from madang.core import Completion, Message, Regex, Request, SamplingParams, collect, streaming
from madang.native import NativeEngine, load
from tests.native.conftest import OpenEngine, as_files, as_plan

N_OTHERS = 30
REQUESTS = [
    Request(prompt=text, max_tokens=24, sampling=sampling)
    for text in ("once-upon-a-time-there-was-a-long-text-of-some-pages " * 3, "hi", "la-la-la-la-la-la-la-la-la-la")
    for sampling in (
        SamplingParams(temperature=0, logprobs=2),
        SamplingParams(temperature=0.9, top_k=0, top_p=0.95, seed=7, logprobs=2),
        SamplingParams(temperature=1.2, min_p=0.02, repeat_penalty=1.2, repeat_last_n=-1, seed=1, logprobs=0),
    )
]


def bits(completion: Completion) -> tuple[object, ...]:
    """All that must not change."""
    return completion.text, completion.logprobs, completion.done.finish_reason, completion.done.usage.completion_tokens


def answers(engine: NativeEngine, requests: Sequence[Request]) -> list[Completion]:
    """All at once, each read by a thread of its own."""
    found: dict[int, Completion] = {}

    def ask(number: int) -> None:
        found[number] = collect(engine.generate(requests[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(requests))]


def others(n: int) -> list[Request]:
    """Requests of many kinds; some begin like the ones that are looked at."""
    chance = random.Random(5)
    beginnings = ["", "once-upon-a-time-there-was-a-long-text", "la-la-la-la"]
    return [
        Request(
            prompt=chance.choice(beginnings) + "x" * chance.randrange(120),
            max_tokens=chance.randrange(40),
            sampling=SamplingParams(temperature=chance.random(), seed=chance.randrange(9)),
            priority="background" if chance.random() < 0.3 else "chat",
        )
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def alone(tiny_gguf: Path) -> list[tuple[object, ...]]:
    """Each request on an engine that has done nothing else."""
    found = []
    for request in REQUESTS:
        with closing(load(as_files(tiny_gguf), as_plan(context_tokens=512))) as engine:
            found.append(bits(collect(engine.generate(request))))
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("speculation", ["off", "ngram"])
@pytest.mark.parametrize("chunk", [5, 16, 256])
def test_among_thirty_others(
    open_engine: OpenEngine, alone: list[tuple[object, ...]], chunk: int, speculation: str, threads: int
) -> None:
    engine = open_engine(context_tokens=512, chunk=chunk, speculation=speculation, threads=threads, concurrency=64)
    crowd = others(N_OTHERS)
    random.Random(1).shuffle(crowd)
    found = answers(engine, [*crowd[:15], *REQUESTS, *crowd[15:]])
    assert [bits(completion) for completion in found[15 : 15 + len(REQUESTS)]] == alone


def test_after_prefixes_of_it_were_computed(open_engine: OpenEngine, alone: list[tuple[object, ...]]) -> None:
    for length in (0, 1, 15, 16, 17, 100, 200):
        engine = open_engine(context_tokens=512)
        for request, expected in zip(REQUESTS, alone, strict=True):
            assert request.prompt is not None
            collect(engine.generate(Request(prompt=request.prompt[:length] + "!", max_tokens=3)))
            completion = collect(engine.generate(request))
            assert completion.done.usage.cached_tokens >= min(length, len(request.prompt)) - 1
            assert bits(completion) == expected


@pytest.mark.parametrize("n_pages", [16, 24, 40])
def test_when_memory_is_short_and_some_step_back(
    open_engine: OpenEngine, alone: list[tuple[object, ...]], n_pages: int
) -> None:
    engine = open_engine(context_tokens=256, n_pages=n_pages, speculation="ngram")
    found = answers(engine, [*REQUESTS, *others(8)])
    assert [bits(completion) for completion in found[: len(REQUESTS)]] == alone


def test_after_others_were_cancelled(open_engine: OpenEngine, alone: list[tuple[object, ...]]) -> None:
    engine = open_engine(context_tokens=512)
    for request, expected in zip(REQUESTS, alone, strict=True):
        for n_read in (1, 3):
            with streaming(engine, request) as events:
                for _ in range(n_read):
                    next(events)
        assert bits(collect(engine.generate(request))) == expected


# ---- a real model


@pytest.fixture(scope="module")
def open_starter(starter_gguf: Path) -> Iterator[OpenEngine]:
    """Engines of the starter model."""
    opened: list[NativeEngine] = []

    def open_with(**plan: object) -> NativeEngine:
        opened.append(load(as_files(starter_gguf), as_plan(context_tokens=1024, n_pages=20_000, **plan)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_with
    for engine in opened:
        engine.close()


def test_the_starter_model(open_starter: OpenEngine) -> None:
    system = Message("system", "You answer briefly. " + "Use short sentences, and repeat the question. " * 4)
    requests = [
        Request(
            messages=(system, Message("user", question)),
            max_tokens=16,
            sampling=SamplingParams(temperature=temperature, seed=3, logprobs=1),
        )
        for question in ("Why is the sky blue?", "Say la la la la la la la la.")
        for temperature in (0, 0.8)
    ]
    requests += [replace(request, constraint=Regex(r"(la )+end")) for request in requests[2:]]
    first = open_starter()
    alone = [bits(collect(first.generate(request))) for request in requests]
    crowd = [Request(messages=(system, Message("user", "x " * n)), max_tokens=8) for n in range(5, 60, 9)]
    engine = open_starter(threads=2, chunk=48, speculation="ngram", concurrency=16)
    found = answers(engine, [*crowd, *requests])
    assert [bits(completion) for completion in found[len(crowd) :]] == alone
