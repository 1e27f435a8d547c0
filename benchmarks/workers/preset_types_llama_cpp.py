"""The types that llama.cpp's `llama_model_quantize` gives each tensor of a file, under every preset: JSON on stdout.

As {preset: {variant: {tensor: type}}}, with the variants "" and "importance" (all ones), and "pure".
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
from gguf import GGUFReader


def main() -> int:
    """Quantize the file of the first argument under the presets that follow."""
    source, *presets = sys.argv[1:]
    ones = importance_of_ones(source)
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder, "target.gguf"))
        types = {
            preset: {
                "": types_of(source, target, preset),
                "importance": types_of(source, target, preset, importance=ones),
                "pure": types_of(source, target, preset, pure=True),
            }
            for preset in presets
        }
    print(json.dumps(types))
    return 0


def types_of(source: str, target: str, preset: str, *, pure: bool = False, importance: Any = None) -> dict[str, str]:
    """Quantize, and read what the file has."""
    name = "ALL_F32" if preset == "F32" else f"MOSTLY_{preset}"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{name}")
    params.nthread = 1
    params.pure = pure
    if importance is not None:
        params.imatrix = importance
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp refused {preset}")
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(target).tensors}


def importance_of_ones(source: str) -> Any:
    """For every tensor; an entry without a name ends them."""
    entries = []
    for tensor in GGUFReader(source).tensors:
        size = int(tensor.shape[0]) * (int(tensor.shape[2]) if len(tensor.shape) > 2 else 1)
        values = (ctypes.c_float * size)(*[1.0] * size)
        entries.append(llama_cpp.llama_model_imatrix_data(tensor.name.encode(), values, size))
    entries.append(llama_cpp.llama_model_imatrix_data(None, None, 0))
    return (llama_cpp.llama_model_imatrix_data * len(entries))(*entries)


if __name__ == "__main__":
    sys.exit(main())
