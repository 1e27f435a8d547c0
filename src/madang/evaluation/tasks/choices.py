"""Multiple choice by likelihood: the choice that the model finds likeliest after the question is its answer.

What items share (examples, a question) is read once, and each choice is a branch of it (Scorer.score_many).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from madang.core import Request
from madang.evaluation.tasks.task import Figure, Graded, Item, Prompt, Response, Row, RowTask, mean_figure


class ChoiceTask(RowTask):
    """A task of rows, each a context and choices, one of them right.

    accuracy is the share of items whose likeliest choice is the right one; ``by_length`` divides log-probabilities by
    the characters of the choices first and is told beside it.
    """

    tells_by_length: bool = False
    tells_macro_f1: bool = False

    @abstractmethod
    def context(self, row: Row) -> str:
        """The question as the model reads it."""

    @abstractmethod
    def choices(self, row: Row) -> Sequence[str]:
        """What may follow it, one space between."""

    @abstractmethod
    def label(self, row: Row) -> int:
        """The number of the right one, from 0."""

    def prompt(self, item: Item) -> Prompt:
        """See Task. Spaces at the end of a context belong to the choices, as tokenizers put them."""
        shots = self._shots
        solved = [f"{self.context(row)} {self.choices(row)[self.label(row)]}" for row in shots.rows]
        whole = shots.description + "".join(text + shots.separator for text in solved) + self.context(item.row)
        context = whole.rstrip()
        spaces = whole[len(context) :]
        return Prompt(Request(prompt=context), tuple(f"{spaces} {choice}" for choice in self.choices(item.row)))

    def score(self, item: Item, response: Response) -> float:
        """Whether the likeliest is the right one."""
        return float(_likeliest(response) == self.label(item.row))

    def said(self, item: Item, response: Response) -> str:
        """The likeliest choice."""
        return self.choices(item.row)[_likeliest(response)]

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        """See Task."""
        found: dict[str, Figure] = {}
        if self.tells_by_length:
            found["accuracy_by_length"] = mean_figure([self._by_length(own) for own in graded])
        if self.tells_macro_f1:
            labels = [self.label(own.item.row) for own in graded]
            answers = [-1 if own.response.problem else _likeliest(own.response) for own in graded]
            value = macro_f1(labels, answers)
            found["macro_f1"] = {"value": value, "low": None, "high": None, "standard_error": None}
        return found

    def _by_length(self, own: Graded) -> float:
        if own.response.problem is not None:
            return 0.0
        lengths = [len(choice) for choice in self.choices(own.item.row)]
        return float(_likeliest(own.response, lengths) == self.label(own.item.row))


def _likeliest(response: Response, lengths: Sequence[int] | None = None) -> int:
    """The first of the likeliest."""
    logprobs = [scored.logprob for scored in response.scored]
    if lengths is not None:
        logprobs = [logprob / length for logprob, length in zip(logprobs, lengths, strict=True)]
    return max(range(len(logprobs)), key=logprobs.__getitem__)


def macro_f1(labels: Sequence[int], answers: Sequence[int]) -> float:
    """The mean over classes of the harmonic mean of precision and recall; 0 for a class that is never right."""
    classes = sorted({*labels, *(answer for answer in answers if answer >= 0)})
    found = []
    for own in classes:
        right = sum(label == answer == own for label, answer in zip(labels, answers, strict=True))
        found.append(2 * right / (labels.count(own) + answers.count(own)))
    return sum(found) / len(found)
