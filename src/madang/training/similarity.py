"""Which texts are nearly the same: MinHash (Broder 1997) with locality-sensitive hashing, exact where it decides.

A text is the set of its runs of SHINGLE_CHARACTERS characters, without regard to case, punctuation and spaces, which
suits every script. Hashes propose pairs; the Jaccard similarity of the sets themselves decides. Memory and time grow
with the number of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SHINGLE_CHARACTERS: Final = 5
N_HASHES: Final = 64
_BATCH_CHARACTERS: Final = 1 << 20
_LOOKED_BACK: Final = 8  # how many of a bucket each text is compared with
_NOT_SAID: Final = re.compile(r"[\W_]+")

Words = npt.NDArray[np.uint64]


def normalized(text: str) -> str:
    """What of a text is compared: letters and digits, composed, in lower case, single spaces between words."""
    return _NOT_SAID.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shingles(text: str) -> Words:
    """The distinct shingles of a normalized text as hashes, sorted; one for a text that is shorter than a shingle."""
    return np.unique(_hashes([text])[0])


def jaccard(a: Words, b: Words) -> float:
    """How much of both sets is in common, from 0 to 1; two empty sets are the same."""
    both = np.intersect1d(a, b, assume_unique=True).size
    return both / max(1, a.size + b.size - both) if a.size or b.size else 1.0


class Signatures:
    """MinHash of many texts: uint32 [texts, N_HASHES]."""

    def __init__(self, texts: Sequence[str], seed: int = 0) -> None:
        """``texts`` are normalized."""
        random = np.random.default_rng(seed)
        factors = random.integers(1, 2**63, (2, N_HASHES), np.uint64) | np.uint64(1)
        self.values = np.empty((len(texts), N_HASHES), np.uint32)
        begin = 0
        while begin < len(texts):
            end, characters = begin, 0
            while end < len(texts) and (end == begin or characters + len(texts[end]) <= _BATCH_CHARACTERS):
                characters += len(texts[end])
                end += 1
            hashes, starts = _hashes(texts[begin:end])
            for k in range(N_HASHES):
                mixed = ((hashes * factors[0, k] + factors[1, k]) >> np.uint64(32)).astype(np.uint32)
                self.values[begin:end, k] = np.minimum.reduceat(mixed, starts)
            begin = end

    def buckets(self, similarity: float) -> list[npt.NDArray[np.int64]]:
        """Groups of texts of which some may be as similar as that; a pair that is, is in one with 99 % or more."""
        rows = _rows_per_band(similarity)
        found: list[npt.NDArray[np.int64]] = []
        for first in range(0, N_HASHES - rows + 1, rows):
            band = np.ascontiguousarray(self.values[:, first : first + rows])
            keys = band.view(np.dtype((np.void, band.shape[1] * 4))).ravel()
            order = np.argsort(keys, kind="stable")
            changes = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
            found += [group for group in np.split(order, changes) if group.size > 1]
        return found


def clusters(texts: Sequence[str], similarity: float) -> npt.NDArray[np.int64]:
    """For each text the index of the first one that it is the same as, or nearly, perhaps through others between them.

    similarity   Jaccard of shingles from which texts count as nearly the same, 0 to 1; 1 takes the same only
    """
    said = [normalized(text) for text in texts]
    groups = _Groups(said)
    distinct = np.flatnonzero(groups.parents == np.arange(len(said)))
    if similarity < 1 and distinct.size > 1:
        for bucket in Signatures([said[i] for i in distinct]).buckets(similarity):
            members = distinct[bucket].tolist()
            for at, member in enumerate(members):
                for other in members[max(0, at - _LOOKED_BACK) : at]:
                    groups.compare(other, member, similarity)
    return np.array([groups.root(i) for i in range(len(said))], np.int64)


class _Groups:
    """Texts joined with those that they are like; the first of a group stands for it."""

    def __init__(self, said: Sequence[str]) -> None:
        first: dict[str, int] = {}
        self.parents = np.array([first.setdefault(text, i) for i, text in enumerate(said)], np.int64)
        self._said = said
        self._sets: dict[int, Words] = {}

    def root(self, i: int) -> int:
        """The text that stands for the group of ``i``."""
        while self.parents[i] != i:
            self.parents[i] = self.parents[self.parents[i]]
            i = int(self.parents[i])
        return i

    def compare(self, one: int, other: int, similarity: float) -> None:
        """Join the groups of two texts if these are similar enough."""
        a, b = sorted((self.root(one), self.root(other)))
        if a != b and jaccard(self._set(one), self._set(other)) >= similarity:
            self.parents[b] = a

    def _set(self, i: int) -> Words:
        if i not in self._sets:
            self._sets[i] = shingles(self._said[i])
        return self._sets[i]


def _rows_per_band(similarity: float) -> int:
    """The most rows with which a pair of exactly that similarity is still found with 99 %."""
    for rows in (16, 8, 4, 2):
        if 1 - (1 - similarity**rows) ** (N_HASHES // rows) >= 0.99:
            return rows
    return 1


def _hashes(texts: Sequence[str]) -> tuple[Words, npt.NDArray[np.int64]]:
    """All shingles of all texts, one after another, and where each text's begin; no text is without one."""
    padded = [text.ljust(SHINGLE_CHARACTERS) for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], np.int64)
    n = points.size - SHINGLE_CHARACTERS + 1
    values = np.zeros(max(0, n), np.uint64)
    for k in range(SHINGLE_CHARACTERS):
        values = values * np.uint64(0x9E3779B97F4A7C15) + points[k : k + n]
    ends = np.cumsum(lengths)
    within = np.ones(max(0, n), bool)
    for k in range(1, SHINGLE_CHARACTERS):  # those that reach into the next text
        across = ends[:-1] - k
        within[across] = False
    starts = np.concatenate(([0], np.cumsum(lengths - SHINGLE_CHARACTERS + 1)[:-1])).astype(np.int64)
    return _mixed(values[within]), starts


def _mixed(values: Words) -> Words:
    """The finaliser of SplitMix64 (Steele 2014): every bit of the result hangs on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def share_found(words: Words, known: Words) -> float:
    """The share of ``words`` that are in sorted ``known``."""
    if not words.size or not known.size:
        return 0.0
    at: Any = np.minimum(np.searchsorted(known, words), known.size - 1)
    return float((known[at] == words).mean())
