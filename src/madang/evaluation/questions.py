"""Questions with known answers: a prompt, and the keywords or the exact answer that are expected."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from madang.core.errors import InvalidRequest

MOST_QUESTIONS: Final = 2000
ANSWER_TOKENS: Final = 64
_FIELDS: Final = frozenset({"prompt", "keywords", "answer"})
_FORM: Final = 'A line is {"prompt": "…", "keywords": ["…"]} or {"prompt": "…", "answer": "…"}.'


@dataclass(frozen=True, slots=True)
class Question:
    """One question. Either some ``keywords``, each of which the answer should have, or the exact ``answer``."""

    prompt: str
    keywords: tuple[str, ...] = ()
    answer: str | None = None

    def score(self, text: str) -> float:
        """From 0 to 1: the share of keywords that are there, or whether it is the answer.

        Case, width and spaces do not count, nor does punctuation around an exact answer.
        """
        said = _normal(text)
        if self.answer is not None:
            return float(said.strip(_AROUND) == _normal(self.answer).strip(_AROUND))
        return sum(_normal(keyword) in said for keyword in self.keywords) / len(self.keywords)


_AROUND = " .,!?:;'\"`*()[]“”‘’。"


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_questions(lines: str) -> list[Question]:
    """Questions of a JSONL text; empty lines do not count. Raises InvalidRequest that names a line that is none."""
    found = []
    for number, line in enumerate(lines.splitlines(), start=1):
        if line.strip():
            found.append(_task(line, number))
    if not 0 < len(found) <= MOST_QUESTIONS:
        raise InvalidRequest(f"There are {len(found)} tasks, but 1 to {MOST_QUESTIONS} are needed.", param="tasks")
    return found


def _task(line: str, number: int) -> Question:
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise _bad(number, "is not JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise _bad(number, "has no prompt")
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        raise _bad(number, f"has '{unknown[0]}', which means nothing here")
    keywords, answer = row.get("keywords"), row.get("answer")
    if (keywords is None) == (answer is None):
        raise _bad(number, "needs either keywords or an answer")
    if answer is not None:
        if not isinstance(answer, str) or not _normal(answer).strip(_AROUND):
            raise _bad(number, "has an answer that is no text")
        return Question(row["prompt"], answer=answer)
    if not isinstance(keywords, list) or not keywords or not all(_is_word(word) for word in keywords):
        raise _bad(number, "has keywords that are not a list of words")
    return Question(row["prompt"], keywords=tuple(keywords))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(_normal(value))


def _bad(number: int, problem: str) -> InvalidRequest:
    return InvalidRequest(f"Line {number} of the tasks {problem}.", param="tasks", hint=_FORM)


def scores_of(questions: Sequence[Question], answers: Sequence[str]) -> list[float]:
    """One score for each."""
    return [question.score(answer) for question, answer in zip(questions, answers, strict=True)]
