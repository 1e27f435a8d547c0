"""families: one module per architecture family, each a page that maps its file to the canonical model.

Main path: :func:`describe_gguf` looks the architecture up and lets its family read the metadata and name the tensors.
Invariants: a family never guesses: a tensor or a setting that it does not understand is an UnsupportedModel.
"""

from madang.formats.families.table import describe_gguf, supported_architectures

__all__ = ["describe_gguf", "supported_architectures"]
