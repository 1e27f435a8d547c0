"""The types chosen are the best that fit, as trying all of them shows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from madang.core.errors import InvalidRequest
from madang.formats.tensors import TensorType
from madang.quantization.allocation import Option, allocate, hull

TYPES = (TensorType.Q2_K, TensorType.Q4_K, TensorType.Q6_K, TensorType.Q8_0)


def random_options(seed: int, n: int = 6) -> dict[str, list[Option]]:
    draw = np.random.default_rng(seed)
    options = {}
    for number in range(n):
        size, sensitivity = int(draw.integers(1, 40)), float(draw.lognormal(0, 2))
        noise = draw.lognormal(0, 0.3, len(TYPES))
        options[f"t{number}"] = [
            Option(t, round(size * 32 * t.bits_per_element), sensitivity * 4.0**-t.bits_per_element * float(f))
            for t, f in zip(TYPES, noise, strict=True)
        ]
    return options


@pytest.mark.parametrize("seed", range(8))
def test_close_to_the_best_of_all(seed: int) -> None:
    options = random_options(seed)
    smallest = sum(min(option.size_bytes for option in own) for own in options.values())
    largest = sum(max(option.size_bytes for option in own) for own in options.values())
    for share in (0.1, 0.4, 0.8):
        budget = round(smallest + share * (largest - smallest))
        found = allocate(options, budget)
        best = min(
            sum(option.loss for option in choice)
            for choice in product(*options.values())
            if sum(option.size_bytes for option in choice) <= budget
        )
        assert found.size_bytes <= budget
        assert found.loss <= 1.001 * best
        chosen = [next(o for o in options[name] if o.type is found.types[name]) for name in options]
        assert found.size_bytes == sum(option.size_bytes for option in chosen)


def test_all_get_the_best_when_there_is_room() -> None:
    options = random_options(0)
    found = allocate(options, 10**9)
    assert found.loss == pytest.approx(sum(min(option.loss for option in own) for own in options.values()))


def test_a_budget_that_nothing_meets() -> None:
    options = random_options(0)
    smallest = sum(min(option.size_bytes for option in own) for own in options.values())
    assert allocate(options, smallest).size_bytes == smallest
    with pytest.raises(InvalidRequest, match="smallest possible"):
        allocate(options, smallest - 1)


def test_the_hull_leaves_out_what_is_never_worth_it() -> None:
    options = [
        Option(TensorType.Q2_K, 10, 9.0),
        Option(TensorType.Q3_K, 20, 8.0),  # above the line between its neighbours
        Option(TensorType.Q4_K, 30, 1.0),
        Option(TensorType.IQ4_NL, 30, 2.0),  # as large, and worse
        Option(TensorType.Q5_K, 40, 1.5),  # larger, and worse
        Option(TensorType.Q8_0, 50, 0.5),
    ]
    assert [option.type for option in hull(options)] == [TensorType.Q2_K, TensorType.Q4_K, TensorType.Q8_0]
