"""Whether what was found is about the question, or only the nearest of what is not.

Two things speak for it: how near the nearest vector is, and how much of what the question's words tell stands in one
chunk. Words that only make it a question tell nothing: they are left out first, or every polite question would look
like one that the documents do not know. The floors were chosen on one half of the questions of benchmarks/retrieval.py
and measured on the other (docs/log.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Models differ in what a cosine means (e5's are rarely below 0.7), so one that was not measured does not decide.
COSINE_FLOORS = {"all-minilm:l6": 0.35}
COVERAGE_FLOORS = {"bigrams": 0.30, "kiwi": 0.40, "whitespace": 0.25}  # of Korean questions, by analyzer
WORDS_FLOOR = 0.35  # of questions without Hangul, whose terms are words for every analyzer
# In a small collection each word is rare or common by chance: what is in none must not outweigh all that is in some.
LEAST_CHUNKS = 1000

# Eojeols and endings that ask: what, which, how, tell me; -nayo, -kka.
_ASKING_KO = re.compile(
    r"(?<![가-힣])(?:무엇|무슨|뭐|뭔|뭘|어떻|어떤|어떠|어느|어디|언제|누구|누가|왜|얼마|몇|알려|설명|말해|가르쳐|주세요|주십)[가-힣]*"
    r"|(?:해야 ?|하면 ?|하려면 ?)?(?:하나요|되나요|있나요|없나요|쓰나요)"
    r"|(?:하|되)?(?:나요|는가요|인가요|은가요|던가요|한가요|까요|습니까|입니까|됩니까|합니까|해요|세요)(?![가-힣])"
)
_ASKING_EN = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|do|does|did|is|are|was|were|be|been|has|have|had|can|could|will"
    r"|would|should|shall|may|might|the|a|an|of|on|in|at|to|for|from|by|with|about|into|as|and|or|but|if|that|this|these"
    r"|those|there|it|its|they|their|them|he|his|she|her|we|our|you|your|i|me|my|not|no|so|than|then|please|tell|explain"
    r"|describe|say|said)\b",
    re.IGNORECASE,
)
_HANGUL = re.compile("[가-힣]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for it.

    cosine     of the nearest chunk; None where the model cannot read the question
    coverage   how much of what the question's words tell stands in one of the chunks, from 0 to 1
    """

    cosine: float | None
    coverage: float


def telling_part(question: str) -> str:
    """A question without the words that only make it one; the whole of it where nothing else is left."""
    asking = _ASKING_KO if _HANGUL.search(question) else _ASKING_EN  # "if" in a Korean question is a keyword
    left = asking.sub(" ", question)
    return left if any(letter.isalnum() for letter in left) else question


def is_covered(coverage: float, analyzer: str, question: str) -> bool:
    """Whether so much of the question stands in a chunk; it depends on what the analyzer takes for words."""
    return coverage >= (COVERAGE_FLOORS[analyzer] if _HANGUL.search(question) else WORDS_FLOOR)


def is_near(cosine: float | None, model: str) -> bool:
    """Whether the nearest vector is near enough, as the model goes."""
    floor = COSINE_FLOORS.get(model)
    return cosine is not None and floor is not None and cosine >= floor
