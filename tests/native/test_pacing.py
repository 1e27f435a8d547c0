"""Measured times become the length of a chunk and the price of a row."""

from __future__ import annotations

import pytest

from madang.native.pacing import Average, Pace


def test_an_average_follows_slowly_and_shrugs_at_a_hiccup() -> None:
    average = Average()
    for value in (1.0, 1.0, 50.0):
        average.add(value)
    assert average.value == pytest.approx(1.2)


def test_costs_lie_on_lines_between_what_was_measured() -> None:
    pace = Pace()
    assert pace.step_s(1) is None
    pace.record(1, 0, 0.010)
    pace.record(5, 0, 0.018)
    assert [pace.step_s(n) for n in (1, 3, 5)] == pytest.approx([0.010, 0.014, 0.018])
    costs = [pace.step_s(n) or 0 for n in range(1, 20)]
    assert costs == sorted(costs)


def test_a_prompt_alone_takes_the_whole_step() -> None:
    pace = Pace()
    assert pace.chunk_tokens(0, 256) == 256
    pace.record(0, 256, 10.0)
    assert pace.chunk_tokens(0, 256) == 256


def test_a_prompt_beside_chats_leaves_them_their_pace() -> None:
    pace = Pace(target_s=0.05)
    assert pace.chunk_tokens(1, 256) == 16  # nothing is known yet
    pace.record(1, 0, 0.010)
    pace.record(0, 100, 0.050)  # 0.5 ms a token
    assert pace.chunk_tokens(1, 256) == 80
    assert pace.chunk_tokens(1, 64) == 64
    for _ in range(50):
        pace.record(1, 80, 0.010 + 80 * 0.002)  # deeper in the text, it takes longer
    assert pace.chunk_tokens(1, 256) == 16
