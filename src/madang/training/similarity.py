"""Which texts are nearly the same: MinHash (Broder 1997) with locality-sensitive hashing, exact where it decides.

A text is the set of its runs of SHINGLE_CHARACTERS characters, without regard to case, punctuation and spaces, which
suits every script. Hashes propose pairs; the Jaccard similarity of the sets themselves decides. Memory and time grow
with the number of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

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


class NearIndex:
    """Texts that come one after another, each to be compared with all that are in here."""

    def __init__(self, similarity: float) -> None:
        """``similarity`` is the Jaccard from which texts count as nearly the same."""
        self._least = similarity
        self._rows = _rows_per_band(similarity)
        self._sets: list[Words] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def add(self, text: str) -> None:
        """Put a text in."""
        said = normalized(text)
        self._sets.append(shingles(said))
        for key in self._keys(said):
            self._bands.setdefault(key, []).append(len(self._sets) - 1)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """The number of the text that is most like it, in the order of ``add``, and how much; None when none is."""
        said = normalized(text)
        words = shingles(said)
        likely = {i for key in self._keys(said) for i in self._bands.get(key, ())}
        best = max(((jaccard(words, self._sets[i]), -i) for i in likely), default=(0.0, 0))
        return (-best[1], best[0]) if likely and best[0] >= self._least else None

    def _keys(self, said: str) -> list[tuple[int, bytes]]:
        (row,) = Signatures([said]).values
        starts = range(0, N_HASHES - self._rows + 1, self._rows)
        return [(first, row[first : first + self._rows].tobytes()) for first in starts]


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


def runs_of(text: str, length: int) -> tuple[int, int]:
    """How many runs of so many characters a text has, and how many of them are different."""
    if len(text) < length:
        return 0, 0
    hashes, _ = _hashes([text], length)
    return hashes.size, np.unique(hashes).size


def _hashes(texts: Sequence[str], length: int = SHINGLE_CHARACTERS) -> tuple[Words, npt.NDArray[np.int64]]:
    """All runs of characters of all texts, one after another, and where each text's begin; no text is without one."""
    padded = [text.ljust(length) for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], np.int64)
    n = points.size - length + 1
    values = np.zeros(n, np.uint64)
    for k in range(length):
        values = values * np.uint64(0x9E3779B97F4A7C15) + points[k : k + n]
    ends = np.cumsum(lengths)
    within = np.ones(n, bool)
    for k in range(1, length):  # those that reach into the next text
        within[ends[:-1] - k] = False
    starts = np.concatenate(([0], np.cumsum(lengths - length + 1)[:-1])).astype(np.int64)
    return _mixed(values[within]), starts


def _mixed(values: Words) -> Words:
    """The finaliser of SplitMix64 (Steele 2014): every bit of the result hangs on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
