"""Guessing the next tokens, so that one step over the weights checks several of them (arXiv:2211.17192).

A guess changes no output. The guessed tokens are computed behind the newest one, and then the request's own sampler
draws from the first row, and goes on to the next row only while what it drew is what was guessed. So greedy and
sampled answers, penalties and constraints are what they are without guessing; only rows of wrong guesses are thrown
away.

Guesses are taken from the text itself: what came after the last few tokens when they stood there before
(arXiv:2304.04487). How often that comes true is counted per request and length of the match, whether the guess was
checked or not, which costs next to nothing; a guess is checked only when that rate pays for the rows at their measured
price.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from madang.native.pacing import Pace

MOST_DRAFTS = 15
SHORTEST_MATCH = 3
LONGEST_MATCH = 32
_RECENT_PLACES = 8  # of an n-gram, how many are compared
_MARGIN = 1.03  # a guess must promise so much, or it is left
_FORGETTING = 0.97
# Matches of up to so many tokens, how often their guess comes true before anything was counted, and what that is worth
# in counts.
_BUCKETS = (3, 4, 6, 9, 14, LONGEST_MATCH)
_PRESUMED = (0.25, 0.35, 0.5, 0.65, 0.8, 0.9)
_PRESUMED_COUNT = 6.0


class Guesser(Protocol):
    """Guesses for one sequence. For each token of the answer: ``chances``, perhaps ``guess``, then ``learn``."""

    def chances(self, tokens: Sequence[int]) -> list[float]:
        """How likely each next guessed token is right if those before it are; empty when there is nothing to guess."""

    def guess(self, tokens: Sequence[int], n: int) -> list[int]:
        """Up to ``n`` tokens that may come after ``tokens``."""

    def guess_s(self, n: int) -> float:
        """Seconds that guessing ``n`` tokens takes."""

    def learn(self, chosen: Sequence[int], n_drafted: int) -> None:
        """These tokens were chosen in fact; ``n_drafted`` had been guessed."""

    def close(self) -> None:
        """The sequence has ended."""


def worthwhile_drafts(chances: Sequence[float], n_rows: int, pace: Pace, guesser: Guesser) -> int:
    """How many guesses to check in a step that has ``n_rows`` rows without them: what gives most tokens a second."""
    alone_s = pace.step_s(n_rows)
    if alone_s is None:
        return 0
    best, best_rate = 0, n_rows / alone_s * _MARGIN
    expected, chance = float(n_rows), 1.0
    for n, next_chance in enumerate(chances, start=1):
        chance *= next_chance
        expected += chance
        rate = expected / ((pace.step_s(n_rows + n) or alone_s) + guesser.guess_s(n))
        if rate > best_rate:
            best, best_rate = n, rate
    return best


class Guessless:
    """Has given up."""

    def chances(self, tokens: Sequence[int]) -> list[float]:
        """See Guesser."""
        return []

    def guess(self, tokens: Sequence[int], n: int) -> list[int]:
        """See Guesser."""
        return []

    def guess_s(self, n: int) -> float:
        """See Guesser."""
        return 0.0

    def learn(self, chosen: Sequence[int], n_drafted: int) -> None:
        """See Guesser."""

    def close(self) -> None:
        """See Guesser."""


class NgramGuesser:
    """Goes on as the text did where it last read the same; of several places, the one with the longest match."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], list[int]] = {}  # of the token after an n-gram
        self._n_indexed = SHORTEST_MATCH
        self._rates = HitRates()
        self._match_length = 0
        self._guess: list[int] = []

    def chances(self, tokens: Sequence[int]) -> list[float]:
        """See Guesser."""
        self._index(tokens)
        place, self._match_length = self._longest_match(tokens)
        if place is None:
            self._guess = []
            return []
        known = list(tokens[place : place + MOST_DRAFTS])
        while len(known) < MOST_DRAFTS:  # the match overlaps its own end: a loop
            known.append(known[len(known) - (len(tokens) - place)])
        self._guess = known
        return [self._rates.rate(self._match_length + i) for i in range(MOST_DRAFTS)]

    def guess(self, tokens: Sequence[int], n: int) -> list[int]:
        """See Guesser."""
        return self._guess[:n]

    def guess_s(self, n: int) -> float:
        """See Guesser."""
        return 0.0

    def learn(self, chosen: Sequence[int], n_drafted: int) -> None:
        """See Guesser."""
        for i, (guessed, token) in enumerate(zip(self._guess, chosen, strict=False)):
            self._rates.count(self._match_length + i, hit=guessed == token)
            if guessed != token:
                break
        self._guess = []

    def close(self) -> None:
        """See Guesser."""

    def _index(self, tokens: Sequence[int]) -> None:
        for place in range(self._n_indexed, len(tokens)):
            places = self._places.setdefault(tuple(tokens[place - SHORTEST_MATCH : place]), [])
            places.append(place)
            if len(places) > _RECENT_PLACES:
                del places[0]
        self._n_indexed = max(len(tokens), SHORTEST_MATCH)

    def _longest_match(self, tokens: Sequence[int]) -> tuple[int | None, int]:
        best, best_length = None, 0
        for place in reversed(self._places.get(tuple(tokens[-SHORTEST_MATCH:]), ())):
            length = SHORTEST_MATCH
            while length < min(place, LONGEST_MATCH) and tokens[place - length - 1] == tokens[-length - 1]:
                length += 1
            if length > best_length:
                best, best_length = place, length
        return best, best_length


class HitRates:
    """How often guesses come true, by the length of the match; what is long ago counts less."""

    def __init__(self) -> None:
        self._counts = [_PRESUMED_COUNT] * len(_BUCKETS)
        self._hits = [rate * _PRESUMED_COUNT for rate in _PRESUMED]

    def rate(self, match_length: int) -> float:
        """The share of guesses after a match of this length that were right."""
        bucket = _bucket(match_length)
        return self._hits[bucket] / self._counts[bucket]

    def count(self, match_length: int, *, hit: bool) -> None:
        """One more guess, right or wrong."""
        bucket = _bucket(match_length)
        self._counts[bucket] = _FORGETTING * self._counts[bucket] + 1
        self._hits[bucket] = _FORGETTING * self._hits[bucket] + hit


def _bucket(match_length: int) -> int:
    return next((i for i, longest in enumerate(_BUCKETS) if match_length <= longest), len(_BUCKETS) - 1)
