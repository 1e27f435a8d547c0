"""Weights that bitsandbytes shrinks while a model loads, computed in the dtype that was chosen, and nothing fetched."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

BITSANDBYTES: Final = "bitsandbytes"  # as config.json names the method

_ABSENT: Final = object()


def bitsandbytes_config(word: str, dtype: Any) -> Any:
    """What ``from_pretrained`` is told for one of ``placement.QUANTIZATIONS``; scales of 4 bits are quantized, too."""
    from transformers import BitsAndBytesConfig

    if word == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=word,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def import_bitsandbytes() -> None:
    """Import it without the kernel that it would fetch from a hub, where the package ``kernels`` is installed."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells at every product that it converts numbers
    before = sys.modules.get("kernels", _ABSENT)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # an import of it fails now
    try:
        import bitsandbytes  # noqa: F401
    finally:
        if before is _ABSENT:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = before  # type: ignore[assignment]


def keep_dtype(model: Any, dtype: Any) -> None:
    """Have 4-bit products computed in ``dtype``, whatever a checkpoint says, on CPUs with AVX512-BF16, too.

    There the library's own kernel computes in bfloat16 whatever it is told; it is left to those who ask for that.
    """
    import torch
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = dtype, True
            if dtype is not torch.bfloat16:
                module.support_avx512bf16_for_cpu = False
