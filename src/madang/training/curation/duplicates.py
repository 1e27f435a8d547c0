"""What is there twice: the same but for case, spaces and marks, or nearly the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.training.examples.example import Example
from madang.training.similarity import clusters, normalized

Part: TypeAlias = Literal["everything", "question", "answer"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
_SHOWN: Final = 5
_SHOWN_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True)
class Duplicates:
    """``is_kept`` says of each example whether it is the first of its kind; ``shown`` are pairs of lines and texts."""

    is_kept: npt.NDArray[np.bool_]
    exact: int
    near: int
    shown: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kept": int(self.is_kept.sum()),
            "dropped_exact": self.exact,
            "dropped_near": self.near,
            "examples": self.shown,
        }


def find_duplicates(examples: Iterable[Example], *, similarity: float = 0.8, by: Part = "everything") -> Duplicates:
    """Which examples to keep: of those that are nearly the same, the first.

    similarity   Jaccard of runs of characters (similarity.py), above 0 to 1; 1 finds only what is the same but for
                 case, spaces and marks
    by           what is compared: questions alone find what was answered in several ways

    Raises InvalidRequest for a similarity or part that makes no sense.
    """
    if not 0 < similarity <= 1:
        raise InvalidRequest(f"A similarity of {similarity:g} is not above 0 and up to 1.", param="similarity")
    if by not in PARTS:
        raise InvalidRequest(f"'{by}' is not one of {', '.join(PARTS)}.", param="by")
    lines: list[int] = []
    texts: list[str] = []
    for example in examples:
        lines.append(example.line)
        texts.append(getattr(example, by))
    roots = clusters(texts, similarity)
    dropped = np.flatnonzero(roots != np.arange(len(texts)))
    exact = 0
    shown: list[dict[str, Any]] = []
    for i in dropped.tolist():
        first = int(roots[i])
        is_exact = normalized(texts[i]) == normalized(texts[first])
        exact += is_exact
        if not is_exact and len(shown) < _SHOWN:
            shown.append(
                {"line": lines[i], "text": _one_line(texts[i]), "as": lines[first], "kept": _one_line(texts[first])}
            )
    return Duplicates(roots == np.arange(len(texts)), exact, dropped.size - exact, shown)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]
