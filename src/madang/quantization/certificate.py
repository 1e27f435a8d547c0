"""The proof that comes with a file: what it loses on text that no choice was made on, beside what presets lose.

A contestant is a way to quantize the same matrices. The file that is written is the budget's only when it is better
than every preset of at most its bytes, with an interval that says so; else it is the best preset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from madang.quantization.divergence import Divergence, Interval, reduction
from madang.quantization.workbench import Mix, Workbench

BUDGET: Final = "budget"
HELD_OUT: Final = "held-out"  # the text of the bench that no choice was made on
RANKED_PRESETS: Final = 4  # the largest that fit, compared on the selection text
CERTIFIED_PRESETS: Final = 3  # the best of them


@dataclass(frozen=True, slots=True)
class Contestant:
    """Types for the matrices, and how they are rounded."""

    name: str
    mix: Mix
    feedback: bool
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What held-out text says.

    found        of each contestant, the budget's first
    reductions   by which share the budget's mean KL lies below that of each other, with its interval
    chosen       what is written
    """

    contestants: Sequence[Contestant]
    found: Sequence[Divergence]
    reductions: Mapping[str, Interval]
    chosen: Contestant

    @property
    def is_budget(self) -> bool:
        """False when a preset could not be beaten."""
        return self.chosen is self.contestants[0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "written": self.chosen.name,
            "contestants": [
                {
                    "name": contestant.name,
                    "size_bytes": contestant.size_bytes,
                    "error_feedback": contestant.feedback,
                    **found.to_dict(),
                }
                for contestant, found in zip(self.contestants, self.found, strict=True)
            ],
            "mean_kl_reduction_against": {name: interval.to_dict() for name, interval in self.reductions.items()},
        }


def largest(presets: Sequence[Contestant]) -> list[Contestant]:
    """Of those that fit, the largest ones: presets of much fewer bytes lose more."""
    return sorted(presets, key=lambda preset: -preset.size_bytes)[:RANKED_PRESETS]


def certify(budget: Contestant, presets: Sequence[Contestant], bench: Workbench) -> Verdict:
    """Compare on the held-out text of ``bench``."""
    contestants = [budget, *presets]
    found = [bench.measure(own.mix, HELD_OUT, feedback=own.feedback) for own in contestants]
    reductions = {preset.name: reduction(found[0], other) for preset, other in zip(presets, found[1:], strict=True)}
    chosen = budget
    if any(interval.low <= 0 for interval in reductions.values()):
        best = min(range(1, len(contestants)), key=lambda number: found[number].mean)
        chosen = contestants[best]
    return Verdict(contestants, found, reductions, chosen)
