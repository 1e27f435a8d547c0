"""What the last generations of a model were like, for people who look now; Prometheus keeps the long run."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Final

MOST_GENERATIONS: Final = 512  # that percentiles are of
MOST_PAUSES: Final = 4096  # between two pieces of an answer, of all its answers together
RATE_S: Final = 10  # whole seconds before this one that a rate is of

TOTALS: Final = (
    "requests",
    "failures",
    "prompt_tokens",
    "cached_tokens",
    "generation_tokens",
    "drafted_tokens",
    "accepted_tokens",
)


@dataclass(frozen=True, slots=True)
class Finished:
    """One generation; times in seconds."""

    to_first_s: float | None
    per_token_s: float | None
    request_s: float
    prompt_tokens: int
    cached_tokens: int


class RecentModel:
    """Totals since the start, and the last of everything. Used in one thread, but for its totals."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._finished: deque[Finished] = deque(maxlen=MOST_GENERATIONS)
        self._pauses_s: deque[float] = deque(maxlen=MOST_PAUSES)
        self._pieces: deque[list[int]] = deque(maxlen=RATE_S + 1)  # a second, and how many came in it

    def finished(self, one: Finished) -> None:
        """A generation came to its end."""
        self._finished.append(one)

    def piece(self, now_s: float, pause_s: float | None) -> None:
        """A piece of an answer came, so long after the one before it; None for the first."""
        if pause_s is not None:
            self._pauses_s.append(pause_s)
        second = int(now_s)
        if self._pieces and self._pieces[-1][0] == second:
            self._pieces[-1][1] += 1
        else:
            self._pieces.append([second, 1])

    def summary(self, now_s: float | None = None) -> dict[str, Any]:
        """Totals, rates and percentiles; None where nothing is known. ``now_s`` is on :func:`time.perf_counter`."""
        second = int(time.perf_counter() if now_s is None else now_s)
        n_pieces = sum(n for at, n in self._pieces if second - RATE_S <= at < second)
        finished = list(self._finished)
        per_token_s = [one.per_token_s for one in finished if one.per_token_s is not None]
        n_prompt = sum(one.prompt_tokens for one in finished)
        return {name: self.totals[name] for name in TOTALS} | {
            "tokens_per_s": n_pieces / RATE_S,
            "cache_hit_share": sum(one.cached_tokens for one in finished) / n_prompt if n_prompt else None,
            "time_to_first_token_s": percentiles([one.to_first_s for one in finished if one.to_first_s is not None]),
            "inter_token_latency_s": percentiles(list(self._pauses_s)),
            "time_per_output_token_s": percentiles(per_token_s),
            "request_s": percentiles([one.request_s for one in finished]),
        }


def percentiles(values: list[float]) -> dict[str, float] | None:
    """Half, 95 and 99 of 100 are not above these; None without values."""
    if not values:
        return None
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
