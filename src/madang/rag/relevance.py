"""Whether what was found is about the question, or only the nearest of what is not."""

from __future__ import annotations

from dataclasses import dataclass

COSINE_FLOOR = 0.40
COVERAGE_FLOOR = 0.45


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for it.

    cosine     of the nearest chunk; None where the model cannot read the question
    coverage   how much of what the question's words tell stands in one of the chunks, from 0 to 1
    """

    cosine: float | None
    coverage: float


def is_relevant(evidence: Evidence) -> bool:
    """Whether either says so."""
    return evidence.coverage >= COVERAGE_FLOOR or (evidence.cosine is not None and evidence.cosine >= COSINE_FLOOR)
