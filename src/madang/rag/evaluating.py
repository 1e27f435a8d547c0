"""How well questions find their passages: recall, reciprocal rank, and what is refused.

A file of questions has a JSON object on each line:

    question    what is asked
    document    the end of the path or name of the document that has the answer
    headings    the path of headings, from the outermost, that the passage stands under
    text        words of the passage, as they stand there
    start, end  the place in the document's text, in characters, in place of ``text``

All but ``question`` narrow what counts as found; a question with none of them has no answer in the documents, and is to
be refused. Other fields are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from madang.core.errors import InvalidRequest

if TYPE_CHECKING:
    from madang.rag.searching import Found
    from madang.rag.stored import StoredChunk

DEPTHS: Final = (1, 3, 5, 10)
_KINDS: Final = {"question": str, "document": str, "headings": list, "text": str, "start": int, "end": int}
_WORDS: Final[dict[type, str]] = {str: "a text", int: "a whole number", list: "a list of texts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and what has its answer."""

    question: str
    document: str | None = None
    headings: Sequence[str] | None = None
    text: str | None = None
    start: int | None = None
    end: int | None = None

    @property
    def is_answerable(self) -> bool:
        """Whether the documents have the answer."""
        return any(part is not None for part in (self.document, self.headings, self.text, self.start))

    def is_answered_by(self, chunk: StoredChunk) -> bool:
        """Whether this is the passage, or has a part of it."""
        if self.document is not None and not chunk.source.endswith(self.document):
            return False
        if self.headings is not None and [*chunk.headings[: len(self.headings)]] != [*self.headings]:
            return False
        if self.start is not None:
            return chunk.start < (self.start + 1 if self.end is None else self.end) and self.start < chunk.end
        return self.text is None or _shares(self.text, chunk.text)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``rank`` is that of the first passage that answers, from 1; None where none was found."""

    question: Question
    rank: int | None
    is_relevant: bool


def read_questions(path: Path) -> list[Question]:
    """Raises InvalidRequest that names the line; OSError."""
    questions = []
    for n, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"Line {n} of {path} is not JSON.", param="questions") from error
        if not isinstance(given, dict) or not given.get("question"):
            raise InvalidRequest(f"Line {n} of {path} has no question.", param="questions")
        known = {name: given[name] for name in _KINDS if given.get(name) is not None}
        wrong = next((name for name, value in known.items() if type(value) is not _KINDS[name]), None)
        if wrong is not None:
            kind = _WORDS[_KINDS[wrong]]
            raise InvalidRequest(f"'{wrong}' in line {n} of {path} must be {kind}.", param="questions")
        questions.append(Question(**known))
    if not questions:
        raise InvalidRequest(f"{path} has no questions.", param="questions")
    return questions


def outcomes(questions: Sequence[Question], search: Callable[[str], Found]) -> Iterator[Outcome]:
    """One for each question, as it is asked."""
    for question in questions:
        found = search(question.question)
        rank = next((hit.rank for hit in found.hits if question.is_answered_by(hit.chunk)), None)
        yield Outcome(question, rank if question.is_answerable else None, found.is_relevant)


def report(measured: Sequence[Outcome]) -> dict[str, Any]:
    """Shares from 0 to 1; None where there is no question of the kind.

    mrr              mean reciprocal rank of the first passage that answers, 0 where none was found
    refused          of questions without an answer
    wrongly_refused  of questions with one
    """
    answerable = [one for one in measured if one.question.is_answerable]
    others = [one for one in measured if not one.question.is_answerable]
    return {
        "n_questions": len(measured),
        "n_answerable": len(answerable),
        **{
            f"recall@{depth}": _share([one.rank is not None and one.rank <= depth for one in answerable])
            for depth in DEPTHS
        },
        "mrr": _share([0.0 if one.rank is None else 1 / one.rank for one in answerable]),
        "refused": _share([not one.is_relevant for one in others]),
        "wrongly_refused": _share([not one.is_relevant for one in answerable]),
    }


def _share(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _shares(wanted: str, text: str) -> bool:
    """Whether one has the other, however lines are broken."""
    wanted, text = " ".join(wanted.split()), " ".join(text.split())
    return wanted in text or text in wanted
