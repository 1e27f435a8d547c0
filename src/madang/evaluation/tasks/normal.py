"""When two answers are the same: what spelling, punctuation and Korean endings do not change."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Final

# What may follow a noun and leaves the answer as it is: particles, then the copula in its usual endings.
_PARTICLES: Final = (
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "에서",
    "에게",
    "으로",
    "로",
    "와",
    "과",
    "도",
    "만",
)
_COPULAS: Final = ("이다", "다", "입니다", "이었다", "였다", "이었습니다", "였습니다", "이에요", "예요", "이며", "이고")
_ENDINGS: Final = frozenset({*_PARTICLES, *_COPULAS})
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")


def normal_answer(text: str) -> str:
    """NFKC, lower case, without punctuation, symbols and English articles, one space between words.

    Rajpurkar et al. 2016 (SQuAD), with compatibility forms, as Korean is written in several, put together first.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in folded)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def is_same_answer(said: str, right: str) -> bool:
    """Whether they are equal; in Korean spaces do not count, nor a particle or a form of "to be" after the noun."""
    own, other = normal_answer(said), normal_answer(right)
    if own == other:
        return bool(own)
    if not other or not is_hangul(other):
        return False
    own, other = own.replace(" ", ""), other.replace(" ", "")
    return own.startswith(other) and (own == other or own[len(other) :] in _ENDINGS)


def is_hangul(text: str) -> bool:
    """Whether there is a Hangul syllable in it."""
    return any("가" <= c <= "힣" for c in text)


def overlap_f1(said: str, right: str) -> float:
    """Harmonic mean of precision and recall of what both have: words, or characters where the right one is Korean.

    As KorQuAD 1.0 (Lim et al. 2019, arXiv:1909.07005) and SQuAD measure it.
    """
    own, other = _pieces(said, right), _pieces(right, right)
    n_same = sum((Counter(own) & Counter(other)).values())
    return 0.0 if n_same == 0 else 2 * n_same / (len(own) + len(other))


def _pieces(text: str, right: str) -> Sequence[str]:
    normal = normal_answer(text)
    return normal.replace(" ", "") if is_hangul(right) else normal.split()
