"""What forecasts learn from a server's answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from madang.core.events import ContextLedger, Done, Timings, Usage
from madang.core.settings import load_settings
from madang.hardware import save_profile
from madang.hardware.corrections import read_observed
from madang.server.background import Background
from madang.server.learning import LEARN_EVERY_S, Learning
from madang.server.limits import Admission
from madang.server.metrics import GenerationEnd
from tests.hardware.test_forecast import PROFILE
from tests.server.doubles import Scripted

DONE = Done(
    "length",
    Usage(prompt_tokens=100, cached_tokens=0, completion_tokens=33),
    Timings(0.0, 0.0, 0.5, 2.0, 0.5, 100, 32),
    ContextLedger(4096, 100, 0, 100, 0, 33),
)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def end(starter_gguf: Path) -> GenerationEnd:
    return GenerationEnd(f"file:{starter_gguf}", "", datetime.now(UTC), DONE, None, ran_alone=True)


def learn(home: Path, *ends: GenerationEnd, pause_s: float = LEARN_EVERY_S) -> list[int]:
    """Decode, prompt and memory observations after these generations, one after the other."""

    async def serve() -> None:
        clock = Clock()
        learning = Learning(load_settings({"home": home}, {}), Background(), clock=clock)
        for end in ends:
            learning.ended(end)
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
            clock.now_s += pause_s

    asyncio.run(serve())
    observed = [*read_observed(home).values()]
    return [len(one.learned[name].ratios) for one in observed for name in ("decode", "prompt", "memory")]


def test_answers_that_ran_alone_teach(tmp_path: Path, end: GenerationEnd) -> None:
    save_profile(tmp_path, PROFILE)
    assert learn(tmp_path, end, end) == [2, 2, 0]  # a server's memory is not that of one model
    assert learn(tmp_path, end, end, pause_s=LEARN_EVERY_S / 2) == [3, 3, 0]


def test_others_do_not(tmp_path: Path, end: GenerationEnd) -> None:
    assert learn(tmp_path, end) == []  # this machine was not measured
    save_profile(tmp_path, PROFILE)
    short = replace(DONE, timings=replace(DONE.timings, prompt_tokens_read=3, decode_tokens=4))
    others = (
        replace(end, ran_alone=False),
        replace(end, done=None, code="cancelled"),
        replace(end, done=short),
        replace(end, model="nothing:here"),
    )
    assert learn(tmp_path, *others) == []


def test_places_know_whether_they_had_company() -> None:
    async def run() -> list[bool]:
        admission, engine = Admission(), Scripted()
        async with admission.place(engine) as alone:
            pass
        async with admission.place(engine) as first:
            async with admission.place(engine) as second:
                assert admission.n_running == 2
            assert admission.n_running == 1
        return [place.had_company for place in (alone, first, second)]

    assert asyncio.run(run()) == [False, True, True]
