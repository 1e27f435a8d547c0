"""Marks such as ``[1]`` in an answer: which of them name a source, and whether that source says something of the kind.

A mark that names no source, or one that has nothing in common with the sentence before it, is taken out of the answer
while it streams, so that nobody is sent to a passage that does not support what they read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_MARK: Final = re.compile(r"( ?)\[(\d{1,4}(?:\s*,\s*\d{1,4}){0,15})\]")
_MAY_BECOME_MARK: Final = re.compile(r" ?(\[[\d, ]{0,80})?$")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?。])\s+|\n+")
_HANGUL: Final = "\uac00-\ud7a3"
_WORDS: Final = re.compile(rf"[{_HANGUL}]+|[^\W_{_HANGUL}]+")
_SENTENCE_CHARACTERS: Final = 1000  # that are looked at, at most
_SHORT: Final = 4  # letters: shorter words of most languages are articles, pronouns and the like
_LEAST_SUPPORT: Final = 0.2  # of a sentence's terms: unrelated passages of one subject share about a tenth


class Marks:
    """Reads an answer as it comes, piece by piece; ``cited`` has the numbers of marks that were left in it."""

    def __init__(self, sources: Mapping[int, str]) -> None:
        """``sources``: number -> text."""
        self._terms = {n: terms_of(text) for n, text in sources.items()}
        self._is_korean = {n: _is_korean(text) for n, text in sources.items()}
        self._held = ""
        self._before = ""
        self._is_code = False
        self.cited: set[int] = set()

    def push(self, text: str) -> str:
        """What of the answer so far can be shown: all but what may be the beginning of a mark."""
        text = self._held + text
        held = _MAY_BECOME_MARK.search(text)
        cut = len(text) if held is None else held.start()
        self._held = text[cut:]
        return self._shown(text[:cut])

    def flush(self) -> str:
        """The rest, when nothing comes any more."""
        rest, self._held = self._held, ""
        return self._shown(rest)

    def _shown(self, text: str) -> str:
        shown, end = [], 0
        for mark in _MARK.finditer(text):
            shown.append(self._said(text[end : mark.start()]))
            end = mark.end()
            shown.append(mark[0] if self._is_code else self._checked(mark))
        return "".join((*shown, self._said(text[end:])))

    def _said(self, text: str) -> str:
        if text.count("`") % 2:
            self._is_code = not self._is_code
        self._before = (self._before + text)[-_SENTENCE_CHARACTERS:]
        return text

    def _checked(self, mark: re.Match[str]) -> str:
        numbers = dict.fromkeys(int(number) for number in mark[2].split(","))
        kept = [n for n in numbers if n in self._terms and self._supports(n)]
        self.cited.update(kept)
        return f"{mark[1]}[{', '.join(map(str, kept))}]" if kept else ""

    def _supports(self, n: int) -> bool:
        """Whether a source may be what the sentence is from. Between two languages, words cannot tell."""
        sentence = _SENTENCE_END.split(self._before.rstrip())[-1]
        if self._is_korean[n] != _is_korean(sentence):
            return True
        terms = terms_of(sentence)
        return not terms or len(terms & self._terms[n]) >= _LEAST_SUPPORT * len(terms)


def support(answer: str, source: str) -> float:
    """The share of an answer's terms that stand in a source, 0 to 1."""
    terms = terms_of(_MARK.sub("", answer))
    return len(terms & terms_of(source)) / len(terms) if terms else 0.0


def terms_of(text: str) -> frozenset[str]:
    """Words that carry meaning; of Korean ones pairs of syllables, because particles are joined to them."""
    terms: set[str] = set()
    for word in _WORDS.findall(text.casefold()):
        if _is_korean(word):
            terms.update(word[i : i + 2] for i in range(len(word) - 1))
        elif len(word) >= _SHORT or word.isdigit():
            terms.add(word)
    return frozenset(terms)


def _is_korean(text: str) -> bool:
    n_hangul = sum("\uac00" <= letter <= "\ud7a3" for letter in text)
    return n_hangul * 5 >= sum(letter.isalpha() for letter in text) > 0
