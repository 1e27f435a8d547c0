"""The limits that decide what is worth learning from. What they measure: measures.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from madang.core.errors import UnknownOption

LANGUAGES: Final = ("ko", "en")
MIN_TEXT: Final = 50
MIN_ANSWER: Final = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits on the answers of a conversation, or on a text; None is no limit, and 1 is none of a share.

    min_characters   None: MIN_TEXT for texts, MIN_ANSWER for answers, which may well be short
    language         one of LANGUAGES, of which at least ``min_language_share`` has to be
    max_perplexity   of answers given what was asked, or of texts, by the model that judges; likewise the minimum,
                     below which a text is a list or a loop
    min_quality      probability of being good, by the classifier
    """

    min_characters: int | None = None
    max_characters: int | None = None
    max_symbol_share: float = 0.3
    max_digit_share: float = 0.5
    max_repeated_share: float = 0.35
    max_repeated_line_share: float = 0.35
    max_top_word_share: float = 0.3
    max_boilerplate_share: float = 0.2
    language: str | None = None
    min_language_share: float = 0.5
    max_perplexity: float | None = None
    min_perplexity: float | None = None
    min_quality: float = 0.5

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in LANGUAGES:
            raise UnknownOption("language", self.language, LANGUAGES)
