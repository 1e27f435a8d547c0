"""How the values of one tensor in several models become one.

linear   the weighted mean (model soups, arXiv:2203.05482)
slerp    along the arc between two, which keeps lengths (Shoemake 1985); a straight line where there is no arc
ties     of what each adds to the base, the largest; where signs disagree, those of the larger sum (arXiv:2306.01708)
dare     of what each adds to the base, some at random, scaled up for those that are left out (arXiv:2311.03099)

Weights are divided by their sum, so that equal models give themselves. ``scale`` is for what is added to a base.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest, UnknownOption

METHODS: Final = ("linear", "slerp", "ties", "dare")
NEEDS_BASE: Final = ("ties", "dare")
_NO_ARC: Final = 1e-6  # of the sine between two directions

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to merge.

    weights   one for each model, positive in sum; for slerp, the share of the second is how far along the arc
    density   the share of what is added that stays, for ties and dare
    scale     factor on what is added to the base, for ties and dare
    seed      of what dare leaves out
    """

    method: str
    weights: tuple[float, ...]
    density: float = 1.0
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownOption("method", self.method, METHODS)
        if not self.weights or not all(math.isfinite(weight) for weight in self.weights) or sum(self.weights) <= 0:
            raise InvalidRequest("Weights must be numbers whose sum is positive.", param="weights")
        if self.method == "slerp" and len(self.weights) != 2:
            raise InvalidRequest(f"slerp merges two models, not {len(self.weights)}.", param="method")
        if not 0 < self.density <= 1:
            raise InvalidRequest(
                f"The density is {self.density:g}, but must be above 0 and at most 1.", param="density"
            )
        if not math.isfinite(self.scale):
            raise InvalidRequest("The scale must be a finite number.", param="scale")

    def to_dict(self) -> dict[str, Any]:
        """For JSON; only what the method looks at."""
        document: dict[str, Any] = {"method": self.method, "weights": list(self.weights)}
        if self.method in NEEDS_BASE:
            document |= {"density": self.density, "scale": self.scale}
        return document | ({"seed": self.seed} if self.method == "dare" else {})


def merge_values(name: str, values: Sequence[Floats], base: Floats | None, recipe: Recipe) -> Floats:
    """One tensor of the merged model, of those of the models in order; ``name`` is for what is drawn at random.

    Raises InvalidRequest when there are not as many as weights, when shapes differ, or without a base for methods that
    need one.
    """
    if len(values) != len(recipe.weights):
        raise InvalidRequest(f"There are {len(values)} models and {len(recipe.weights)} weights.", param="weights")
    if len({one.shape for one in (*values, *(() if base is None else (base,)))}) != 1:
        shapes = ", ".join(str(one.shape) for one in values)
        raise InvalidRequest(f"The models do not fit: '{name}' is {shapes}.")
    if base is None and recipe.method in NEEDS_BASE:
        raise InvalidRequest(f"{recipe.method} needs the model that the others come from.", hint="Give --base.")
    weights = np.array(recipe.weights, np.float64) / sum(recipe.weights)
    if recipe.method == "linear":
        return _mean(values, weights)
    if recipe.method == "slerp":
        return _slerp(values[0], values[1], float(weights[1]))
    assert base is not None
    added = [one - base for one in values]
    if recipe.method == "ties":
        change = _ties(added, weights, recipe.density)
    else:
        # By name, so that each tensor leaves out others, and a seed means the same in every order.
        draws = np.random.default_rng((recipe.seed, zlib.crc32(name.encode())))
        change = _mean([_thinned(one, recipe.density, draws) for one in added], weights)
    merged: Floats = base + np.float32(recipe.scale) * change
    return merged


def _mean(values: Sequence[Floats], weights: npt.NDArray[np.float64]) -> Floats:
    total = np.zeros(values[0].shape, np.float32)
    for one, weight in zip(values, weights, strict=True):
        total += np.float32(weight) * one
    return total


def _slerp(first: Floats, second: Floats, share: float) -> Floats:
    lengths = [float(np.linalg.norm(one)) for one in (first, second)]
    straight = _mean((first, second), np.array((1 - share, share)))
    if not all(lengths):
        return straight
    cosine = float(np.vdot(first / lengths[0], second / lengths[1]))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if math.sin(angle) < _NO_ARC:
        return straight
    near, far = (math.sin(part * angle) / math.sin(angle) for part in (1 - share, share))
    merged: Floats = np.float32(near) * first + np.float32(far) * second
    return merged


def _ties(added: Sequence[Floats], weights: npt.NDArray[np.float64], density: float) -> Floats:
    """The mean, of those that have the sign that the sum has, of what stays of each."""
    kept = [np.float32(weight) * _largest(one, density) for one, weight in zip(added, weights, strict=True)]
    elected = np.sign(np.sum(kept, axis=0))
    total, shares = np.zeros(added[0].shape, np.float32), np.zeros(added[0].shape, np.float32)
    for one, weight in zip(kept, weights, strict=True):
        agrees = (np.sign(one) == elected) & (one != 0)
        total += np.where(agrees, one, 0)
        shares += np.where(agrees, np.float32(weight), 0)
    merged: Floats = np.divide(total, shares, out=np.zeros_like(total), where=shares != 0)
    return merged


def _largest(values: Floats, density: float) -> Floats:
    """The same with 0 for all but that share of largest magnitude."""
    n_kept = max(round(density * values.size), 1)
    if n_kept >= values.size:
        return values
    sizes = np.abs(values).reshape(-1)
    bound = np.partition(sizes, values.size - n_kept)[values.size - n_kept]
    return np.where(np.abs(values) >= bound, values, np.float32(0))


def _thinned(values: Floats, density: float, draws: np.random.Generator) -> Floats:
    """Each value with that probability, divided by it, else 0."""
    stays = draws.random(values.shape, np.float32) < density
    return np.where(stays, values / np.float32(density), np.float32(0))
