"""Which words a text is found by, and how much each counts: BM25 (Robertson et al., TREC-3) for Korean and English.

score(query, chunk) = sum over the query's terms of idf(term) · weight(term, chunk)

The weight of a chunk's term knows the chunk's length and the mean of its collection; the idf of a query's term knows
how many chunks have it. So an index holds weights, a query brings its idf along, and every index gives the same scores.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from madang.core.errors import EngineUnavailable, UnknownOption

K1 = 1.5
B = 0.75

# Scripts that do not part every word with a space: their pairs of neighbours stand for words.
_PAIRED = "가-힣ᄀ-ᇿㄱ-ㆎ\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_RUNS = re.compile(f"(?P<paired>[{_PAIRED}]+)|(?:(?![{_PAIRED}])\\w)+")


class Analyzer(Protocol):
    """Turns a text into terms, the same way for chunks and for queries."""

    name: str

    def __call__(self, text: str) -> Iterable[str]:
        """Terms in the order of the text, as often as they stand there."""


class Bigrams:
    """Pairs of neighbouring syllables for Korean (and Chinese and Japanese), whole words for the rest, in lower case.

    Korean particles stick to their nouns; a pair of syllables inside the noun is the same with and without them.
    """

    name = "bigrams"

    def __call__(self, text: str) -> Iterator[str]:
        """See :class:`Analyzer`."""
        for run in _RUNS.finditer(_folded(text)):
            word = run[0]
            if run["paired"] is None or len(word) == 1:
                yield word
            else:
                yield from (word[i : i + 2] for i in range(len(word) - 1))


class Whitespace:
    """What stands between spaces. Only there to be compared with: Korean particles hide the noun from it."""

    name = "whitespace"

    def __call__(self, text: str) -> Iterable[str]:
        """See :class:`Analyzer`."""
        return _folded(text).split()


class Kiwi:
    """Morphemes that mean something, found by Kiwi (package ``kiwipiepy``): nouns, verb stems, foreign words."""

    name = "kiwi"
    _KEPT = ("N", "VV", "VA", "MA", "XR", "SL", "SN", "SH")

    def __init__(self) -> None:
        try:
            from kiwipiepy import Kiwi as Morphemes
        except ImportError as error:
            raise EngineUnavailable(
                "This collection was made with Kiwi, which is not installed.", hint="pip install kiwipiepy"
            ) from error
        self._kiwi: Any = Morphemes(num_workers=1)

    def __call__(self, text: str) -> Iterable[str]:
        """See :class:`Analyzer`."""
        return [token.form for token in self._kiwi.tokenize(_folded(text)) if token.tag.startswith(self._KEPT)]


_ANALYZERS: Mapping[str, type[Bigrams] | type[Whitespace] | type[Kiwi]] = {
    analyzer.name: analyzer for analyzer in (Bigrams, Kiwi, Whitespace)
}


@cache
def find_analyzer(name: str) -> Analyzer:
    """The analyzer of that name. Raises UnknownOption, and EngineUnavailable where its package is missing."""
    if name not in _ANALYZERS:
        raise UnknownOption("analyzer", name, [*_ANALYZERS])
    return _ANALYZERS[name]()


def default_analyzer() -> str:
    """For a new collection: Kiwi where it is installed, else pairs of syllables, which need nothing."""
    return Kiwi.name if find_spec("kiwipiepy") is not None else Bigrams.name


def _folded(text: str) -> str:
    """Composed, because some systems take syllables apart; without differences of width and case."""
    return unicodedata.normalize("NFKC", text).casefold()


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of one text: ``ids`` uint32 [n], rising, and how often each stands there, ``counts`` uint16 [n]."""

    ids: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint16]

    @property
    def n_terms(self) -> int:
        """The length of the text, in terms."""
        return int(self.counts.sum())

    def to_bytes(self) -> bytes:
        """As the database keeps them: all ids, then all counts."""
        return self.ids.tobytes() + self.counts.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Terms:
        """The inverse of :meth:`to_bytes`."""
        n = len(data) // 6
        return cls(np.frombuffer(data, "<u4", n), np.frombuffer(data, "<u2", n, n * 4))

    def weights(self, mean_terms: float) -> npt.NDArray[np.float32]:
        """float32 [n]: what each term counts in a collection whose texts have ``mean_terms`` terms."""
        counts = self.counts.astype(np.float32)
        length = float(counts.sum()) / max(mean_terms, 1.0)
        return (counts * (K1 + 1) / (counts + K1 * (1 - B + B * length))).astype(np.float32)


def count_terms(words: Iterable[str]) -> Terms:
    """The terms of a text by the checksums of their bytes: two words share one in about 1 of 4 billion pairs."""
    counted = Counter(zlib.crc32(word.encode("utf-8", "replace")) for word in words)
    ids = np.array(sorted(counted), "<u4")
    counts = np.array([min(counted[int(id)], 0xFFFF) for id in ids], "<u2")
    return Terms(ids, counts)


def idf(n_chunks: int, n_with: int) -> float:
    """How much a term tells that stands in ``n_with`` of ``n_chunks`` chunks; never below 0."""
    return math.log1p(max(n_chunks - n_with + 0.5, 0.0) / (n_with + 0.5))
