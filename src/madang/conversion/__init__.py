"""conversion: the same model in another format: Hugging Face folders to GGUF files and back.

Main path: describe the source, ask its family for the other form, compare how that reads with the source, stream every
tensor into it.
Invariants: nothing is written that reads as another model; nothing is left half-written.
"""

from madang.conversion.to_folder import to_folder
from madang.conversion.to_gguf import to_gguf

__all__ = ["to_folder", "to_gguf"]
