"""Figures follow their definitions, and intervals say what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from madang.evaluation.measures import (
    Reading,
    difference,
    divergence_figures,
    equal_divergences,
    estimate,
    is_noise,
    text_figures,
    text_is_noise,
)


def readings(n: int, *, nats: float = 2.0, kl: float | None = None, seed: int = 0) -> list[Reading]:
    """Passages of 10 tokens, 30 bytes and 15 characters, around so many nats per token."""
    rng = np.random.default_rng(seed)
    return [
        Reading("a", 30, 15, 10, 10 * (nats + float(rng.normal(0, 0.1))), None if kl is None else (kl,) * 10, 9)
        for _ in range(n)
    ]


def test_perplexity_and_bits_are_those_of_all_tokens() -> None:
    own = [Reading("a", 40, 20, 10, 23.0), Reading("a", 20, 20, 30, 47.0)]
    figures = text_figures(own)
    assert figures["perplexity"]["value"] == pytest.approx(math.exp(70 / 40))
    assert figures["bits_per_byte"]["value"] == pytest.approx(70 / math.log(2) / 60)
    assert figures["bits_per_character"]["value"] == pytest.approx(70 / math.log(2) / 40)
    assert (figures["tokens"], figures["bytes"], figures["passages"]) == (40, 60, 2)


def test_few_passages_have_no_interval() -> None:
    assert estimate([1.0] * 4, [1.0] * 4)["low"] is None
    assert estimate([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)["low"] < 3


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    found = [estimate(rng.normal(5, 2, 40).tolist(), [1.0] * 40) for _ in range(100)]
    covered = sum(own["low"] <= 5 <= own["high"] for own in found)
    assert 86 <= covered <= 99


def test_a_difference_is_noise_until_the_interval_excludes_none() -> None:
    base = np.random.default_rng(1).normal(10, 3, 30)
    ones = [1.0] * 30
    jitter = np.random.default_rng(2).normal(0, 0.01, 30)
    assert is_noise(difference((base + jitter).tolist(), base.tolist(), ones)) is True
    assert is_noise(difference((base + jitter + 0.1).tolist(), base.tolist(), ones)) is False
    assert is_noise(difference([1.0], [2.0], [1.0])) is None


def test_texts_are_compared_on_the_same_passages() -> None:
    reference = readings(12)
    worse = [Reading(own.part, own.n_bytes, own.n_characters, own.n_tokens, own.nats + 1) for own in reference]
    assert text_is_noise(worse, reference) == {"a": False}
    assert text_is_noise(readings(12, seed=3), reference) == {"a": True}
    assert text_is_noise(reference[:3], reference) == {"a": None}


def test_divergence_needs_every_passage() -> None:
    assert divergence_figures(readings(3)) is None
    assert divergence_figures([*readings(3, kl=0.1), *readings(1)]) is None
    figures = divergence_figures([Reading("a", 1, 1, 2, 1.0, (0.1, 0.3), 1), Reading("a", 1, 1, 1, 1.0, (0.8,), 1)])
    assert figures is not None
    assert figures["mean_kl"]["value"] == pytest.approx(0.4)
    assert figures["median_kl"] == pytest.approx(0.3)
    assert figures["top_1_agreement"]["value"] == pytest.approx(2 / 3)


def test_models_that_are_as_far_from_the_reference_are_named() -> None:
    rng = np.random.default_rng(5)

    def own(mean: float) -> list[Reading]:
        return [Reading("a", 9, 9, 4, 1.0, tuple(rng.gamma(2, mean / 2, 4)), 0) for _ in range(40)]

    assert equal_divergences({"one": own(0.2), "other": own(0.2), "far": own(2.0), "none": readings(40)}) == [
        ("one", "other")
    ]
