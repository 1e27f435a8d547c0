"""Some examples kept aside to measure on, such that none of them was learnt in other words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from madang.core.errors import InvalidRequest
from madang.training.examples.example import Example
from madang.training.similarity import clusters

SAME_QUESTION: Final = 0.7  # Jaccard of character runs, from which questions count as the same


@dataclass(frozen=True, slots=True)
class Split:
    """Two lists, each in the order of the file. ``groups`` is the number of different questions."""

    train: list[Example]
    validation: list[Example]
    groups: int


def split(examples: Sequence[Example], validation_share: float, seed: int = 0) -> Split:
    """A share of the examples for validation, drawn by groups: nearly the same questions stay on one side.

    The same examples and seed give the same split. Raises InvalidRequest for a share outside of 0 to 1, and when one
    side would be left without examples although something was asked for it.
    """
    if not 0 <= validation_share < 1:
        raise InvalidRequest(f"A validation share of {validation_share:g} is not from 0 to below 1.", param="share")
    if not examples or validation_share == 0:
        return Split(list(examples), [], len(examples))
    roots = clusters([example.question for example in examples], SAME_QUESTION)
    groups, sizes = np.unique(roots, return_counts=True)
    if len(groups) < 2:
        raise InvalidRequest(
            f"All {len(examples)} examples ask nearly the same, so none can be kept aside to measure on.",
            param="share",
            hint="Use a share of 0, or other data.",
        )
    wanted = max(1, round(validation_share * len(examples)))
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen: list[int] = []
    taken = 0
    for at in order[:-1]:  # one group is always left to train on
        if taken + sizes[at] <= wanted or not chosen:
            chosen.append(int(groups[at]))
            taken += int(sizes[at])
        if taken >= wanted:
            break
    aside = np.isin(roots, chosen)
    return Split(
        [example for example, is_aside in zip(examples, aside, strict=True) if not is_aside],
        [example for example, is_aside in zip(examples, aside, strict=True) if is_aside],
        len(groups),
    )
