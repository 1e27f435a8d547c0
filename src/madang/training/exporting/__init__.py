"""exporting: a trained model as files that others run, and the gate that each of them passes first.

Main path: find_trained -> fold_adapter -> the writer of the kind -> check_parity -> rename.
Invariants: what is kept reads, answers and ends as the trained model does, within a stated bound; a failed export
leaves nothing; an adapter is folded into full precision or not at all.
"""

from madang.training.exporting.exporting import Exported, Options, export
from madang.training.exporting.folding import fold_adapter
from madang.training.exporting.kinds import KINDS, Kind, parse_kind
from madang.training.exporting.parity import ParityReport, Reference, check_parity
from madang.training.exporting.trained import Trained, find_trained

__all__ = [
    "KINDS",
    "Exported",
    "Kind",
    "Options",
    "ParityReport",
    "Reference",
    "Trained",
    "check_parity",
    "export",
    "find_trained",
    "fold_adapter",
    "parse_kind",
]
