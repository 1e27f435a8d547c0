"""What a question asks for, as far as it decides how documents are looked into: its language, and how much of them."""

from __future__ import annotations

import re
from typing import Final, Literal

from madang.rag.relevance import telling_part

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
# Words that stand for something said before, and beginnings that go on from it.
_LEANS: Final = re.compile(
    r"""
    \b(it|its|they|their|them|he|his|him|she|her|hers|that|this|these|those|there|then|one|ones|same|other|others|else)\b
    | ^\s*(and|but|or|so|also|why|what\ about|how\ about)\b
    | (?<![가-힣])(그|이|그것|이것|저것|그게|이게|그건|이건|그거|이거|거기|여기|그분|그녀
      |그때|그럼|그러면|그런데|그래서|그리고|또|왜냐)
      (?:[은는이가을를의도에]|에서|에는|들\S*)?(?![가-힣])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FOLLOW_UP_CHARACTERS: Final = 60
_FOLLOW_UP_WORDS: Final = 1  # that tell something: with two it names a thing and what is asked of it


def language_of(text: str) -> Language:
    """Korean when some of its letters are: Korean questions are full of English words, and hardly the other way."""
    n_letters = sum(letter.isalpha() for letter in text)
    return "ko" if len(_HANGUL.findall(text)) * 5 >= n_letters > 0 else "en"


def asks_for_whole(question: str) -> bool:
    """Whether it can only be answered from a whole document: a summary, what it is about."""
    return _WHOLE.search(question) is not None


def with_context(question: str, earlier: str) -> str | None:
    """What to look for when a question alone finds nothing: a short one may lean on the question before it.

    None for one that stands alone: it names what it is about, and what the documents do not say of that is refused.
    """
    if not earlier or len(question) > _FOLLOW_UP_CHARACTERS:
        return None
    n_words = sum(any(map(str.isalnum, word)) for word in telling_part(question).split())
    leans = n_words <= _FOLLOW_UP_WORDS or _LEANS.search(question) is not None
    return f"{earlier}\n{question}" if leans else None
