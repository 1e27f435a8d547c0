"""Text to measure on, cut into passages that are the same for every model, whatever its tokenizer.

The texts in the folder beside this file were written for this purpose: no model has been trained on them, and they
fall under the licence of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from madang.core.errors import InvalidRequest

PASSAGE_BYTES: Final = 700  # about 150 tokens of English, 200 to 400 of Korean
MOST_PASSAGES: Final = 64
BUILT_IN: Final = ("English", "Korean")

_SENTENCE = re.compile(r".+?(?:[.!?]['\"”’)]*\s+|\n+|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece that models read at once, without what stands before it. ``part`` is the text that it comes from."""

    part: str
    text: str

    @property
    def n_bytes(self) -> int:
        """In UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class EvaluationText:
    """What all models of a comparison read."""

    passages: tuple[Passage, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its texts, in order."""
        return tuple(dict.fromkeys(passage.part for passage in self.passages))


def built_in_text() -> EvaluationText:
    """About 5.6 kB of English, and as much of Korean."""
    folder = files("madang.evaluation") / "texts"
    found = [
        passage
        for name in BUILT_IN
        for passage in _passages(name, (folder / f"{name.lower()}.txt").read_text(encoding="utf-8"))
    ]
    return EvaluationText(tuple(found))


def text_of(name: str, text: str, *, at_most: int = MOST_PASSAGES) -> EvaluationText:
    """A text of one's own; of more than ``at_most`` passages, so many spread over it. Raises InvalidRequest."""
    found = list(_passages(name, text))
    if not found:
        raise InvalidRequest(f"{name} holds no text to measure on.", param="text", hint="Give one of some kilobytes.")
    kept = min(len(found), at_most)
    return EvaluationText(tuple(found[number * len(found) // kept] for number in range(kept)))


def _passages(part: str, text: str) -> Iterator[Passage]:
    """Whole sentences until they are long enough."""
    piece = ""
    for sentence in _pieces(text.replace("\r\n", "\n")):
        if piece and len((piece + sentence).encode()) > PASSAGE_BYTES:
            yield Passage(part, piece.strip())
            piece = ""
        piece += sentence
    if piece.strip():
        yield Passage(part, piece.strip())


def _pieces(text: str) -> Iterator[str]:
    """Sentences; what has none for long is cut where it is."""
    for match in _SENTENCE.finditer(text):
        sentence = match[0]
        for begin in range(0, len(sentence), PASSAGE_BYTES // 2):
            piece = sentence[begin : begin + PASSAGE_BYTES // 2]
            if piece.strip():
                yield piece
