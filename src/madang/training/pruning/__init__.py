"""pruning: a model with fewer layers, heads or FFN columns, as a folder that everything loads.

Main path: :func:`block_influence` or :func:`measure_widths` -> a :class:`Cut` -> :func:`write_cut`.
Invariants: only what a model read decides what leaves it; weights that stay are the same bits; a tied head stays tied.
Healing what is left is :mod:`madang.training.distilling`'s.
"""

from madang.training.pruning.cutting import Cut, write_cut
from madang.training.pruning.influence import block_influence, least_influential
from madang.training.pruning.widths import Widths, measure_widths, strongest_columns, strongest_heads

__all__ = [
    "Cut",
    "Widths",
    "block_influence",
    "least_influential",
    "measure_widths",
    "strongest_columns",
    "strongest_heads",
    "write_cut",
]
