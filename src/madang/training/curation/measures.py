"""What can be seen of a text without understanding it. Shares are from 0 to 1, and hold for every script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from madang.training.similarity import runs_of

REPEATED_CHARACTERS: Final = 12
_FEW_WORDS: Final = 20  # of fewer, none can be called frequent
_FEW_LINES: Final = 4
_SYMBOL: Final = re.compile(r"[^\w\s.,!?'\"“”‘’…·:;()\-]|_")
_DIGIT: Final = re.compile(r"\d")
_HANGUL: Final = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣᄀ-ᇿ]")
_LATIN: Final = re.compile(r"[A-Za-zÀ-ɏ]")
_LETTER: Final = re.compile(r"[^\W\d_]")
_WORD: Final = re.compile(r"\w+")
# What nearly every English sentence has, and sentences of other languages in Latin letters do not.
_ENGLISH_WORDS: Final = "the of and to in is a that it for was on with as are be this by from he she you i"
_ENGLISH: Final = frozenset(_ENGLISH_WORDS.split())
# What pages carry around their texts, and models write instead of an answer.
BOILERPLATE: Final = (
    "all rights reserved",
    "click here",
    "cookie policy",
    "privacy policy",
    "terms of service",
    "terms of use",
    "subscribe to our",
    "sign up for our newsletter",
    "share on facebook",
    "enable javascript",
    "lorem ipsum",
    "as an ai language model",
    "무단 전재",
    "무단전재",
    "재배포 금지",
    "재배포금지",
    "저작권자",
    "이용약관",
    "개인정보처리방침",
    "개인정보 처리방침",
    "구독과 좋아요",
    "바로가기",
    "ai 언어 모델로서",
)
_BOILERPLATE: Final = re.compile("|".join(map(re.escape, BOILERPLATE)))


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one text.

    symbol_share, digit_share   of its characters
    repeated_share              of its runs of REPEATED_CHARACTERS characters, those that were there before
    repeated_line_share         of its lines, where there are at least four
    top_word_share              of its words, the most frequent one, where there are at least twenty
    boilerplate_share           of its characters, those in lines with a phrase of BOILERPLATE
    languages                   how much of it each known language can be: ko by its letters, en by letters and words
    """

    characters: int
    symbol_share: float
    digit_share: float
    repeated_share: float
    repeated_line_share: float
    top_word_share: float
    boilerplate_share: float
    languages: Mapping[str, float]


def measure(text: str) -> Measures:
    """The measures of a text; of an empty one all are 0."""
    n = max(1, len(text))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = _WORD.findall(text.casefold())
    runs, distinct = runs_of(text, REPEATED_CHARACTERS)
    said = sum(len(line) for line in lines if _BOILERPLATE.search(line.casefold()))
    return Measures(
        characters=len(text.strip()),
        symbol_share=len(_SYMBOL.findall(text)) / n,
        digit_share=len(_DIGIT.findall(text)) / n,
        repeated_share=1 - distinct / runs if runs else 0.0,
        repeated_line_share=1 - len(set(lines)) / len(lines) if len(lines) >= _FEW_LINES else 0.0,
        top_word_share=Counter(words).most_common(1)[0][1] / len(words) if len(words) >= _FEW_WORDS else 0.0,
        boilerplate_share=said / n,
        languages=_languages(text, words),
    )


def hangul_share(text: str) -> float:
    """Of its letters, those that are Hangul."""
    return len(_HANGUL.findall(text)) / max(1, len(_LETTER.findall(text)))


def _languages(text: str, words: list[str]) -> dict[str, float]:
    latin = len(_LATIN.findall(text)) / max(1, len(_LETTER.findall(text)))
    is_foreign = len(words) >= _FEW_WORDS and sum(word in _ENGLISH for word in words) < len(words) / 20
    return {"ko": hangul_share(text), "en": 0.0 if is_foreign else latin}
