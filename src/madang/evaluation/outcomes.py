"""What came of an evaluation, and what changed between two: differences of the same items, with what may be chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.evaluation.measures import difference, is_noise
from madang.evaluation.tasks.task import Figure, wilson

Document = dict[str, Any]
_MOST_SHOWN_FLIPS: Final = 50


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task of one model.

    digest     of all prompts: results of other digests were not asked the same
    figures    the task's own under its metric, and others by name
    items      per item: id, score, weight, said, and a problem if there was one
    tokens     that were generated or scored, and the ``seconds`` that took when it was done
    problem    why there is nothing, if so
    """

    name: str
    version: str
    metric: str
    higher_is_better: bool
    digest: str
    example: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()
    tokens: int = 0
    seconds: float = 0.0
    problem: str | None = None

    @property
    def figure(self) -> Figure | None:
        """The task's own."""
        return self.figures.get(self.metric)

    @property
    def n_failed(self) -> int:
        """Items that could not be asked; they count as wrong."""
        return sum(item.get("problem") is not None for item in self.items)

    def to_dict(self) -> Document:
        """As JSON holds it, with ``n`` and ``n_failed``."""
        return {**asdict(self), "items": list(self.items), "n": len(self.items), "n_failed": self.n_failed}


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """One model, some tasks. ``model`` says what it is: label, model, engine, digest, size_bytes, settings."""

    model: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
    made_at: str
    madang: str
    failed: str | None = None

    def to_dict(self) -> Document:
        """As JSON holds it."""
        return {
            "madang": self.madang,
            "made_at": self.made_at,
            "model": dict(self.model),
            "failed": self.failed,
            "tasks": [task.to_dict() for task in self.tasks],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> EvaluationResult:
        """The same back. Raises InvalidRequest for a document that is none."""
        try:
            tasks = [
                TaskResult(**{name: value for name, value in task.items() if name not in ("n", "n_failed")})
                for task in document["tasks"]
            ]
            return cls(document["model"], tuple(tasks), document["made_at"], document["madang"], document.get("failed"))
        except (KeyError, TypeError, AttributeError):
            raise InvalidRequest("This is not the document of an evaluation.") from None


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """After minus before, on the same items.

    difference   mean, low and high; None of fewer items than an interval needs. Of perplexities it is in nats per word
    gained       ids of items that were wrong and are right, and ``lost`` the other way round, where items are either
    p_value      of as uneven flips by chance (McNemar's test, exact); None where items are not right or wrong
    """

    name: str
    metric: str
    before: float
    after: float
    n: int
    difference: tuple[float, float, float] | None
    gained: tuple[str, ...] | None
    lost: tuple[str, ...] | None
    p_value: float | None

    @property
    def may_be_chance(self) -> bool | None:
        """Whether the interval holds 0; None where it is not known."""
        return is_noise(self.difference)

    def to_dict(self) -> Document:
        """As JSON holds it; of flips their numbers, and the first ids."""
        return {
            "task": self.name,
            "metric": self.metric,
            "n": self.n,
            "before": self.before,
            "after": self.after,
            "difference": None if self.difference is None else dict(zip(_NAMES, self.difference, strict=True)),
            "may_be_chance": self.may_be_chance,
            "gained": None if self.gained is None else len(self.gained),
            "lost": None if self.lost is None else len(self.lost),
            "gained_ids": list((self.gained or ())[:_MOST_SHOWN_FLIPS]),
            "lost_ids": list((self.lost or ())[:_MOST_SHOWN_FLIPS]),
            "p_value": self.p_value,
        }


_NAMES: Final = ("value", "low", "high")


def compare_results(before: EvaluationResult, after: EvaluationResult) -> list[TaskDifference]:
    """Every task that both have, asked in the same way of the same items.

    Raises InvalidRequest when there is none, and says why the others do not count.
    """
    found = list(_differences(before, after))
    if not found:
        own, others = (", ".join(task.name for task in result.tasks) or "none" for result in (before, after))
        raise InvalidRequest(
            f"The two have no task with the same items and prompts: {own}; {others}.",
            hint="Run both with the same --task, --limit and --shots.",
        )
    return found


def _differences(before: EvaluationResult, after: EvaluationResult) -> Iterator[TaskDifference]:
    others = {(task.name, task.version, task.digest): task for task in after.tasks}
    for task in before.tasks:
        other = others.get((task.name, task.version, task.digest))
        if other is None or task.figure is None or other.figure is None:
            continue
        pairs = list(zip(task.items, other.items, strict=True))
        was, now = ([pair[place]["score"] for pair in pairs] for place in (0, 1))
        gained = lost = p_value = None
        if all(score in (0, 1) for score in (*was, *now)):
            gained = tuple(str(one["id"]) for one, two in pairs if two["score"] > one["score"])
            lost = tuple(str(one["id"]) for one, two in pairs if two["score"] < one["score"])
            p_value = mcnemar(len(gained), len(lost))
        weights = [min(one["weight"], two["weight"]) for one, two in pairs]
        yield TaskDifference(
            name=task.name,
            metric=task.metric,
            before=task.figure["value"],
            after=other.figure["value"],
            n=len(pairs),
            difference=_apart(now, was, weights),
            gained=gained,
            lost=lost,
            p_value=p_value,
        )


def _apart(now: Sequence[float], was: Sequence[float], weights: Sequence[float]) -> tuple[float, float, float] | None:
    """The mean difference and its interval; where no item that is right or wrong flipped, it is Wilson's, both ways."""
    found = difference(now, was, weights) if any(weights) else None
    if found is None or now != was or not all(score in (0, 1) for score in now):
        return found
    reach = wilson(0, len(now))["high"]
    return 0.0, -reach, reach


def mcnemar(n_gained: int, n_lost: int) -> float:
    """The chance of flips at least as uneven, if both ways were as likely (McNemar 1947, exact binomial)."""
    n, fewer = n_gained + n_lost, min(n_gained, n_lost)
    if n == 0:
        return 1.0
    return min(1.0, 2 * math.fsum(math.comb(n, k) / 2**n for k in range(fewer + 1)))
