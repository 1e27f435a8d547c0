"""Published benchmarks of multiple choice: MMLU, KMMLU, HAE-RAE, ARC and HellaSwag.

Prompts are those under which most published figures were made, so that figures can be put beside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from madang.core.errors import InvalidRequest
from madang.evaluation.tasks.choices import ChoiceTask
from madang.evaluation.tasks.rows import field_of, index_of, text_of
from madang.evaluation.tasks.task import Row

LETTERS = ("A", "B", "C", "D")


class MMLU(ChoiceTask):
    """Hendrycks et al. 2020, arXiv:2009.03300: 57 subjects, four choices, answered by a letter.

    Reads question, choices (a list) or A to D, and answer as a number from 0 or a letter.
    """

    def context(self, row: Row) -> str:
        """Question, lettered choices, "Answer:"."""
        return _lettered(row, "Answer:")

    def choices(self, row: Row) -> Sequence[str]:
        """The letters."""
        return LETTERS

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "answer", n=4)


class KMMLU(ChoiceTask):
    """Son et al. 2024, arXiv:2402.11548: Korean exams of 45 subjects. Reads question, A to D, answer from 1."""

    def context(self, row: Row) -> str:
        """The same in Korean; the colon is a full-width one, as in published runs."""
        return _lettered(row, "정답：")

    def choices(self, row: Row) -> Sequence[str]:
        """The letters."""
        return LETTERS

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "answer", n=4, first=1)


class HaeRae(ChoiceTask):
    """Son et al. 2023, arXiv:2309.02706: knowledge of Korea, five choices inside the query. Reads query, answer."""

    tells_by_length = True

    def context(self, row: Row) -> str:
        """The query as it is."""
        return text_of(row, "query")

    def choices(self, row: Row) -> Sequence[str]:
        """(A) to (E)."""
        return ("(A)", "(B)", "(C)", "(D)", "(E)")

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "answer", n=5)


class ARC(ChoiceTask):
    """Clark et al. 2018, arXiv:1803.05457: science questions; choices are scored as texts.

    Reads question, choices {text, label} and answerKey; in the original release question {stem, choices}.
    """

    tells_by_length = True

    def context(self, row: Row) -> str:
        """The question; its choices are not shown."""
        question = field_of(row, "question")
        stem = question["stem"] if isinstance(question, dict) else question
        return f"Question: {stem}\nAnswer:"

    def choices(self, row: Row) -> Sequence[str]:
        """Texts."""
        return [text for _, text in _arc_choices(row)]

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        names = [name for name, _ in _arc_choices(row)]
        answer = text_of(row, "answerKey")
        if answer not in names:
            raise InvalidRequest(f"'{answer}' names none of {', '.join(names)}.", param="data")
        return names.index(answer)


class HellaSwag(ChoiceTask):
    """Zellers et al. 2019, arXiv:1905.07830: which end follows. Reads activity_label, ctx_a, ctx_b, endings, label."""

    tells_by_length = True

    def context(self, row: Row) -> str:
        """Activity and beginning."""
        beginning = f"{text_of(row, 'ctx_a')} {text_of(row, 'ctx_b').capitalize()}"
        return _without_marks(f"{text_of(row, 'activity_label')}: {beginning}")

    def choices(self, row: Row) -> Sequence[str]:
        """The ends."""
        return [_without_marks(str(end)) for end in field_of(row, "endings")]

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "label", n=len(field_of(row, "endings")))


def _lettered(row: Row, end: str) -> str:
    texts = row["choices"] if "choices" in row else [field_of(row, letter) for letter in LETTERS]
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=True)]
    return "\n".join([text_of(row, "question").strip(), *lines, end])


def _arc_choices(row: Row) -> list[tuple[str, str]]:
    question: Any = field_of(row, "question")
    choices: Any = question["choices"] if isinstance(question, dict) else field_of(row, "choices")
    if isinstance(choices, dict):
        return list(zip(map(str, choices["label"]), map(str, choices["text"]), strict=True))
    return [(str(choice["label"]), str(choice["text"])) for choice in choices]


def _without_marks(text: str) -> str:
    """WikiHow's [title], [step] and their like are left overs of how the data was made."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
