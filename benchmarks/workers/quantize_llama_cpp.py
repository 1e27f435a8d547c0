"""Quantize a GGUF file with llama.cpp's `llama_model_quantize`: the mixes that people download under these names."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from typing import Any

import llama_cpp


def main() -> int:
    """Write `target` as `type` from `source`; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("type", help="as llama.cpp names it: Q4_K_M, Q6_K, ...")
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--importance", help="a GGUF file of llama.cpp's imatrix tool or of 'madang importance'")
    options = parser.parse_args()
    file_type = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{options.type}", None)
    if file_type is None:
        print(f"llama.cpp has no type {options.type}", file=sys.stderr)
        return 2
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = os.cpu_count() or 1
    params.pure = options.pure
    importance = importance_data(options.importance) if options.importance else None  # alive until all is written
    if importance is not None:
        params.imatrix = importance
    return int(llama_cpp.llama_model_quantize(options.source.encode(), options.target.encode(), ctypes.byref(params)))


def importance_data(path: str) -> Any:
    """The mean squares of each tensor as llama.cpp wants them; an entry without a name ends them."""
    from gguf import GGUFReader

    tensors = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    entries = []
    for name, sums in tensors.items():
        if name.endswith(".in_sum2"):
            stem = name.removesuffix(".in_sum2")
            counts = tensors[stem + ".counts"].reshape(-1, 1)
            means = (sums.reshape(len(counts), -1) / counts.clip(1)).astype("float32").reshape(-1)
            values = (ctypes.c_float * means.size)(*means.tolist())
            entries.append(llama_cpp.llama_model_imatrix_data(stem.encode(), values, means.size))
    entries.append(llama_cpp.llama_model_imatrix_data(None, None, 0))
    return (llama_cpp.llama_model_imatrix_data * len(entries))(*entries)


if __name__ == "__main__":
    sys.exit(main())
