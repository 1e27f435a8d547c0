"""adapters: files with what fine-tuning added to a model's matrices (LoRA, arXiv:2106.09685).

Main path: :func:`read_adapter`, a PEFT folder or a GGUF file -> AdapterDescription, in canonical names and in the row
order of the base model. Invariants: an adapter that changes anything that we do not compute is refused, and so is one
whose shapes are not those of the model.
"""

from madang.formats.adapters.description import AdapterDescription, LowRank
from madang.formats.adapters.reading import read_adapter

__all__ = ["AdapterDescription", "LowRank", "read_adapter"]
