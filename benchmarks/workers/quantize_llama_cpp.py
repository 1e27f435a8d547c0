"""Quantize a GGUF file with llama.cpp's `llama_model_quantize`: the mixes that people download under these names."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys

import llama_cpp


def main() -> int:
    """Write `target` as `type` from `source`; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("type", help="as llama.cpp names it: Q4_K_M, Q6_K, ...")
    parser.add_argument("--pure", action="store_true")
    options = parser.parse_args()
    file_type = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{options.type}", None)
    if file_type is None:
        print(f"llama.cpp has no type {options.type}", file=sys.stderr)
        return 2
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = os.cpu_count() or 1
    params.pure = options.pure
    return int(llama_cpp.llama_model_quantize(options.source.encode(), options.target.encode(), ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(main())
