"""Ways to merge, tried one after the other: the best on a validation text is written, and reported on another."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.native import MutableModel
from madang.quantization.divergence import compare, fold, rows_of
from madang.training.folders import require_new
from madang.training.merging.arithmetic import NEEDS_BASE, Recipe
from madang.training.merging.sources import Source, write_merged

_STEPS: Final = 4  # weights are multiples of 1 / _STEPS
_DENSITIES: Final = (0.2, 0.5)

Chunks = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Swept:
    """What was tried, and what is at the target. Perplexities are of the validation text."""

    tried: list[tuple[Recipe, float]]
    alone: list[tuple[str, float]]
    best: Recipe

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "chosen": self.best.to_dict(),
            "tried": [{**recipe.to_dict(), "perplexity": value} for recipe, value in self.tried],
            "alone": [{"name": name, "perplexity": value} for name, value in self.alone],
        }


def recipes_to_try(n_models: int, methods: Sequence[str]) -> list[Recipe]:
    """Mixtures of all models in quarters, by each method; those of one model alone are no mixture."""
    parts = [
        weights
        for weights in itertools.product(range(1, _STEPS), repeat=n_models)
        if sum(weights) == (_STEPS if n_models <= _STEPS else n_models)
    ] or [(1,) * n_models]
    recipes = []
    for method in methods:
        if method == "slerp" and n_models != 2:
            continue
        for weights, density in itertools.product(parts, _DENSITIES if method in NEEDS_BASE else (1.0,)):
            recipes.append(Recipe(method, tuple(weight / sum(weights) for weight in weights), density))
    return recipes


def sweep(
    target: Path,
    sources: Sequence[Source],
    recipes: Sequence[Recipe],
    validation: Chunks,
    base: Source | None = None,
    *,
    n_threads: int = 1,
    tell: Callable[[Recipe, float], None] = lambda recipe, perplexity: None,
) -> Swept:
    """Merge by each recipe, and leave the best at ``target``: two merged models are on the disk at most.

    Raises InvalidRequest without recipes or where something is at ``target``, and what merging raises.
    """
    require_new(target)
    if not recipes:
        raise InvalidRequest("There is no way to merge that could be tried.", param="method")
    whole = [source for source in sources if not source.is_adapted]
    alone = [(source.name, perplexity_of(source.folder, validation, n_threads)) for source in whole]
    tried: list[tuple[Recipe, float]] = []
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as work:
        best_folder = Path(work, "best")
        best = math.inf
        for recipe in recipes:
            folder = Path(work, "next")
            write_merged(folder, sources, recipe, base, n_threads=n_threads)
            found = perplexity_of(folder, validation, n_threads)
            tried.append((recipe, found))
            tell(recipe, found)
            if found < best or not best_folder.exists():
                best = found
                shutil.rmtree(best_folder, ignore_errors=True)
                folder.replace(best_folder)
            else:
                shutil.rmtree(folder)
        best_folder.replace(target)
    return Swept(tried, alone, min(tried, key=lambda one: one[1])[0])


def perplexity_of(folder: Path, chunks: Chunks, n_threads: int) -> float:
    """Of the chunks' tokens but the first of each. Raises what loading raises."""
    model = MutableModel(folder, n_threads)
    read = ((rows_of(model, chunk), chunk) for chunk in chunks)
    return fold(compare(rows, rows, chunk) for rows, chunk in read).perplexity
