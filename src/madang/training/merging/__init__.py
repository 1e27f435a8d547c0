"""merging: one model of several, without training: adapters into their base, models and adapters with each other.

Main path: :func:`open_source` for each -> :func:`write_merged`; :func:`sweep` chooses how on one text and reports on
another. Invariants: nothing is merged into a quantized base; one matrix of each model is in memory at a time.
"""

from madang.training.merging.arithmetic import METHODS, Recipe, merge_values
from madang.training.merging.sources import Source, open_source, write_merged
from madang.training.merging.sweeping import Swept, recipes_to_try, sweep

__all__ = [
    "METHODS",
    "Recipe",
    "Source",
    "Swept",
    "merge_values",
    "open_source",
    "recipes_to_try",
    "sweep",
    "write_merged",
]
