"""What a task is: items, the prompt of each, and the score of what a model made of it.

A prompt never changes under one version: figures of other versions are not compared with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any, Final

from madang.core import Request, Scored
from madang.evaluation.measures import estimate

_Z: Final = 1.959964  # of 95 %

Row = Mapping[str, Any]
Rows = Callable[[], Sequence[Row]]
Figure = Mapping[str, Any]  # value, low, high and confidence as estimate() gives them, and standard_error


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a task's data. ``id`` is no other item's of the same task."""

    id: str
    row: Row


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given for an item.

    request         what it answers, or what stands before the continuations
    continuations   texts of which it is asked how likely each is; none: it answers the request
    is_rolling      the only continuation is a whole text of any length, scored from its beginning; the request's prompt
                    is then read before it, and is empty for what the model itself begins a text with
    chat            what it answers where texts are put as a chat; None is the request's text as it is
    """

    request: Request
    continuations: tuple[str, ...] = ()
    is_rolling: bool = False
    chat: Request | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What a model made of a prompt: a text or a score per continuation, or why there is neither.

    tokens   that were generated or scored
    """

    text: str = ""
    scored: tuple[Scored, ...] = ()
    tokens: int = 0
    problem: str | None = None


class Task(ABC):
    """One task. Subclasses say where items come from, what is asked, and what counts.

    name       as the command line has it
    version    changes whenever prompts or scores change
    metric     what ``figure`` is: accuracy, exact_match, pass@1, word_perplexity, BLEU …
    """

    version: str = "1"
    metric: str = "accuracy"
    higher_is_better: bool = True
    is_costly: bool = False  # scoring: its results are kept as well

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """All items, in the order of the data. Raises InvalidRequest for data that is not of this task."""

    @abstractmethod
    def prompt(self, item: Item) -> Prompt:
        """What a model is given for it."""

    @abstractmethod
    def score(self, item: Item, response: Response) -> float:
        """How good that is; of texts, how many nats they took."""

    def weight(self, item: Item, response: Response) -> float:
        """What the score is divided by in the mean over items."""
        return 1.0

    def shown(self, mean: float) -> float:
        """The figure that the mean is told as."""
        return mean

    def said(self, item: Item, response: Response) -> str:
        """What the response comes down to, for people who look through the items."""
        return response.text

    def figure(self, graded: Sequence[Graded]) -> Figure:
        """The task's figure over all items, with its interval."""
        return mean_figure([own.score for own in graded], [own.weight for own in graded], self.shown)

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        """Other figures, by name."""
        return {}


class RowTask(Task):
    """A task whose items are the rows of its data, in order; ``shots`` are solved examples before each prompt."""

    def __init__(self, name: str, rows: Rows, shots: Shots | None = None) -> None:
        super().__init__(name)
        self._rows = rows
        self._shots = Shots() if shots is None else shots

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(str(number), row) for number, row in enumerate(self._rows())]


@dataclass(frozen=True, slots=True)
class Graded:
    """An item, what came of it, and what that is worth. A response with a problem scores 0."""

    item: Item
    response: Response
    score: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Shots:
    """Solved examples before each prompt, the same for all items, and what stands before them."""

    rows: tuple[Row, ...] = ()
    description: str = ""
    separator: str = field(default="\n\n")


def wilson(share: float, n: int) -> dict[str, float]:
    """The interval of a share of 0 or 1 among ``n``, which drawing again cannot show (Wilson 1927)."""
    reach = _Z**2 / (n + _Z**2)
    return {"low": 0.0, "high": reach} if share == 0 else {"low": 1 - reach, "high": 1.0}


def mean_figure(scores: Sequence[float], weights: Sequence[float] | None = None, shown: Any = None) -> Figure:
    """The (weighted) mean with a bootstrap interval over items, and its standard error.

    Where all are right, or all wrong, drawing again shows nothing, and the interval is Wilson's (1927).

    The standard error is that of the mean before ``shown``, times its slope: s / sqrt(n), None of fewer than two.
    """
    counts = [1.0] * len(scores) if weights is None else list(weights)
    tell = (lambda value: value) if shown is None else shown
    figure = estimate(scores, counts, tell)
    if figure["low"] is not None and set(scores) in ({0.0}, {1.0}) and set(counts) == {1.0}:
        figure |= wilson(scores[0], len(scores))
    total = math.fsum(counts)
    mean = math.fsum(scores) / total
    error = None
    if len(scores) > 1:
        n, unit = len(scores), total / len(scores)
        residuals = [(score - mean * count) / unit for score, count in zip(scores, counts, strict=True)]
        spread = stdev(residuals) / math.sqrt(n)
        error = abs(float(tell(mean + spread / 2) - tell(mean - spread / 2)))
    return {**figure, "standard_error": error}
