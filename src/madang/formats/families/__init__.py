"""families: one module per architecture family, each a page that maps its files to the canonical model.

Main path: :func:`describe_model` looks the architecture up and lets its family read the settings and name the tensors.
The way back: the ``gguf_form`` and ``folder_form`` of each page (forms.py).
Beside the pages: names.py (tables of tensor names), reading.py and ropes.py (what families read alike), reshaping.py
(fused, transposed and shifted tensors), pooling.py (vectors of texts).
Invariants: a family never guesses: a tensor or a setting that it does not understand is an UnsupportedModel.
"""

from madang.formats.families.outline import outline_spec
from madang.formats.families.pooling import stated_embedding
from madang.formats.families.table import (
    describe_folder,
    describe_gguf,
    describe_model,
    folder_form,
    gguf_form,
    supported_architectures,
    supported_model_types,
)

__all__ = [
    "describe_folder",
    "describe_gguf",
    "describe_model",
    "folder_form",
    "gguf_form",
    "outline_spec",
    "stated_embedding",
    "supported_architectures",
    "supported_model_types",
]
