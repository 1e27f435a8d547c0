"""Figures of what was read, each with an interval: passages, not tokens, are drawn again (Efron 1979, percentiles).

Perplexity counts tokens, so it compares models of one tokenizer only. Bits per byte and per character count what people
wrote, and compare any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.quantization.divergence import Interval

CONFIDENCE: Final = 0.95
MIN_DRAWN: Final = 5  # from fewer, an interval says nothing
_N_RESAMPLES: Final = 4000
_SEED: Final = 0

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model made of one passage.

    nats       minus the natural-log probability of its tokens
    kl         KL(reference || this), nats, per token; None where it cannot be compared with the reference
    n_agreed   tokens whose likeliest next one is the reference's, too
    """

    part: str
    n_bytes: int
    n_characters: int
    n_tokens: int
    nats: float
    kl: tuple[float, ...] | None = None
    n_agreed: int = 0


def estimate(
    totals: Sequence[float], counts: Sequence[float], shown: Callable[[float], float] = lambda value: value
) -> dict[str, Any]:
    """``shown(sum of totals / sum of counts)`` with its interval; ``low`` and ``high`` are None where it has none."""
    sums, weights = np.array(totals, np.float64), np.array(counts, np.float64)
    value = shown(float(sums.sum() / weights.sum()))
    if len(sums) < MIN_DRAWN:
        return {"value": value, "low": None, "high": None, "confidence": CONFIDENCE}
    draws = _draws(len(sums))
    low, high = _limits(sums[draws].sum(axis=1) / weights[draws].sum(axis=1))
    return Interval(value, shown(low), shown(high), CONFIDENCE).to_dict()


def difference(
    totals: Sequence[float], others: Sequence[float], counts: Sequence[float]
) -> tuple[float, float, float] | None:
    """Mean of ``totals`` minus that of ``others`` and its interval, the same passages drawn for both."""
    if len(totals) < MIN_DRAWN:
        return None
    apart = np.array(totals, np.float64) - np.array(others, np.float64)
    weights = np.array(counts, np.float64)
    draws = _draws(len(apart))
    low, high = _limits(apart[draws].sum(axis=1) / weights[draws].sum(axis=1))
    return float(apart.sum() / weights.sum()), low, high


def is_noise(found: tuple[float, float, float] | None) -> bool | None:
    """Whether a difference may be chance; None where that is not known."""
    return None if found is None else found[1] <= 0 <= found[2]


def _draws(n: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(n, size=(_N_RESAMPLES, n))


def _limits(drawn: Doubles) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def text_figures(readings: Sequence[Reading]) -> dict[str, Any]:
    """Of one text: perplexity, bits per byte and per character, and how much was read."""
    nats = [reading.nats for reading in readings]
    tokens = [reading.n_tokens for reading in readings]
    return {
        "perplexity": estimate(nats, tokens, math.exp),
        "bits_per_byte": estimate(nats, [reading.n_bytes for reading in readings], _bits),
        "bits_per_character": estimate(nats, [reading.n_characters for reading in readings], _bits),
        "tokens": sum(tokens),
        "bytes": sum(reading.n_bytes for reading in readings),
        "passages": len(readings),
    }


def _bits(nats: float) -> float:
    return nats / math.log(2)


def figures_by_part(readings: Sequence[Reading]) -> dict[str, Any]:
    """The same for each text."""
    parts = dict.fromkeys(reading.part for reading in readings)
    return {part: text_figures([reading for reading in readings if reading.part == part]) for part in parts}


def divergence_figures(readings: Sequence[Reading]) -> dict[str, Any] | None:
    """KL and agreement over all texts; None where it was not measured."""
    kls = [reading.kl for reading in readings if reading.kl is not None]
    if not kls or len(kls) != len(readings):
        return None
    tokens = [len(kl) for kl in kls]
    every = np.concatenate([np.array(kl) for kl in kls])
    return {
        "mean_kl": estimate([math.fsum(kl) for kl in kls], tokens),
        "median_kl": float(np.quantile(every, 0.5)),
        "p99.9_kl": float(np.quantile(every, 0.999)),
        "top_1_agreement": estimate([reading.n_agreed for reading in readings], tokens),
        "tokens": len(every),
    }


def text_is_noise(readings: Sequence[Reading], reference: Sequence[Reading]) -> Mapping[str, bool | None]:
    """For each text: whether a model may be as good on it as the reference, per byte of the same passages."""
    found: dict[str, bool | None] = {}
    for part in dict.fromkeys(reading.part for reading in readings):
        own = [reading for reading in readings if reading.part == part]
        others = [reading for reading in reference if reading.part == part]
        sizes = [reading.n_bytes for reading in own]
        nats, other_nats = [reading.nats for reading in own], [reading.nats for reading in others]
        found[part] = is_noise(difference(nats, other_nats, sizes)) if len(own) == len(others) else None
    return found


def equal_divergences(readings: Mapping[str, Sequence[Reading]]) -> list[tuple[str, str]]:
    """Pairs of models whose KL from the reference may be the same."""
    totals = {
        name: [(math.fsum(reading.kl), len(reading.kl)) for reading in own if reading.kl is not None]
        for name, own in readings.items()
        if own and all(reading.kl is not None for reading in own)
    }
    names = list(totals)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    return [(one, other) for one, other in pairs if _are_equal(totals[one], totals[other])]


def _are_equal(one: Sequence[tuple[float, int]], other: Sequence[tuple[float, int]]) -> bool:
    if len(one) != len(other):
        return False
    counts = [count for _, count in one]
    return is_noise(difference([total for total, _ in one], [total for total, _ in other], counts)) is True
