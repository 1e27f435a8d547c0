"""What a question asks for, as far as it decides how documents are looked into: its language, and how much of them."""

from __future__ import annotations

import re
from typing import Final, Literal

Language = Literal["ko", "en"]

_HANGUL: Final = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_WHOLE: Final = re.compile(
    r"""
    \b(summar(y|i[sz]e|i[sz]ed|i[sz]ing)|overview|gist|tl;?dr|main\ points|key\ points|outline)\b
    | what\ (is|was|does)\ (this|the)\ \w+(\ \w+)?\ (about|cover|say)\b | what\ happened\ (in|at)\ (this|the)\ \w+
    | 요약 | 줄거리 | 개요 | (전체|주요|핵심|무슨)\s*(내용|논의|논점|사항|안건)
    | (문서|회의|회의록|파일|글|책)\S*\s*(전체|정리)
    | 무엇에\s*(대한|관한) | 어떤\s*내용
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FOLLOW_UP_CHARACTERS: Final = 60


def language_of(text: str) -> Language:
    """Korean when some of its letters are: Korean questions are full of English words, and hardly the other way."""
    n_letters = sum(letter.isalpha() for letter in text)
    return "ko" if len(_HANGUL.findall(text)) * 5 >= n_letters > 0 else "en"


def asks_for_whole(question: str) -> bool:
    """Whether it can only be answered from a whole document: a summary, what it is about."""
    return _WHOLE.search(question) is not None


def with_context(question: str, earlier: str) -> str | None:
    """What to look for when a question alone finds nothing: a short one may lean on the question before it.

    None for one that is long enough to stand alone.
    """
    return f"{earlier}\n{question}" if earlier and len(question) <= _FOLLOW_UP_CHARACTERS else None
