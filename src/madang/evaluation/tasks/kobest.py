"""KoBEST (Jang et al. 2022, arXiv:2204.04541), from the files of its authors or their release on the hub.

Prompts are those of published log-likelihood runs. Accuracy and the macro F1 that the paper reports.
"""

from __future__ import annotations

from collections.abc import Sequence

from madang.core.errors import InvalidRequest
from madang.evaluation.tasks.choices import ChoiceTask
from madang.evaluation.tasks.rows import field_of, index_of, text_of
from madang.evaluation.tasks.task import Row

_CONNECTORS = {"원인": "왜냐하면", "결과": "그래서"}


class BoolQ(ChoiceTask):
    """Does the text say so? 1404 items in the test set."""

    tells_macro_f1 = True

    def context(self, row: Row) -> str:
        """Text and question."""
        return f"{text_of(row, 'paragraph', 'Text')} 질문: {text_of(row, 'question', 'Question')} 답변: "

    def choices(self, row: Row) -> Sequence[str]:
        """No, yes."""
        return ("아니오", "예")

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return _truth(field_of(row, "label", "Answer"))


class COPA(ChoiceTask):
    """Which of two is the cause, or the effect? 1000 items in the test set."""

    tells_macro_f1 = True

    def context(self, row: Row) -> str:
        """The premise and the word for why or so; two spaces between, as in published runs."""
        kind = text_of(row, "question").strip()
        if kind not in _CONNECTORS:
            raise InvalidRequest(f"'{kind}' is neither {' nor '.join(_CONNECTORS)}.", param="data")
        return f"{text_of(row, 'premise', 'sentence')}  {_CONNECTORS[kind]}"

    def choices(self, row: Row) -> Sequence[str]:
        """Both sentences."""
        return (text_of(row, "alternative_1", "1"), text_of(row, "alternative_2", "2"))

    def label(self, row: Row) -> int:
        """From 0 on the hub, from 1 in the authors' files."""
        return index_of(row, "label", n=2) if "label" in row else index_of(row, "Answer", n=2, first=1)


class HellaSwag(ChoiceTask):
    """Which of four sentences follows? 500 items in the test set."""

    tells_macro_f1 = True
    tells_by_length = True

    def context(self, row: Row) -> str:
        """The sentences before."""
        return f"문장: {text_of(row, 'context')}"

    def choices(self, row: Row) -> Sequence[str]:
        """Four sentences."""
        return [text_of(row, f"ending_{number}", f"choice{number}") for number in range(1, 5)]

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "label", n=4)


class SentiNeg(ChoiceTask):
    """Is a review good, which negation may turn around? 397 items in the test set."""

    tells_macro_f1 = True

    def context(self, row: Row) -> str:
        """The review."""
        return f"문장: {text_of(row, 'sentence', 'Text')} 긍부정:"

    def choices(self, row: Row) -> Sequence[str]:
        """Bad, good."""
        return ("부정", "긍정")

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return index_of(row, "label", "Label", n=2)


class WiC(ChoiceTask):
    """Does a word mean the same in both sentences? 1260 items in the test set."""

    tells_macro_f1 = True

    def context(self, row: Row) -> str:
        """Both sentences and the word."""
        first, second = text_of(row, "context_1", "SENTENCE1"), text_of(row, "context_2", "SENTENCE2")
        return f"문장1: {first} 문장2: {second} 두 문장에서 {text_of(row, 'word', 'Target')}가 같은 뜻으로 쓰였나?"

    def choices(self, row: Row) -> Sequence[str]:
        """No, yes."""
        return ("아니오", "예")

    def label(self, row: Row) -> int:
        """See ChoiceTask."""
        return _truth(field_of(row, "label", "ANSWER"))


def _truth(value: object) -> int:
    word = str(value).strip().casefold()
    if word not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"'{value}' is neither true nor false.", param="data")
    return int(word in ("true", "1"))
