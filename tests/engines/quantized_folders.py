"""Checkpoints of GPTQ and AWQ packed by hand after their formats, and the same weights as a folder of plain numbers.

GPTQ (arXiv:2210.17323) as GPTQModel writes format "gptq": columns of 32 bits hold 8 inputs of a row, zero points are
stored one less than they are. AWQ (arXiv:2306.00978), version "gemm": 8 outputs in the order of ``AWQ_ORDER``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.parity.checkpoints import Checkpoint, TinyModel, random_weights, write_folder

MODEL = TinyModel("packed", n_embd=128, n_ff=256, n_layers=2)  # whole words and groups of every matrix
GROUP = 64
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Codes = npt.NDArray[np.uint32]
Pack = Callable[[Codes, Codes, npt.NDArray[np.float16]], dict[str, npt.NDArray[Any]]]


def write_packed(folder: Path, method: str) -> None:
    """``folder/packed`` and ``folder/plain``, the same function of their tokens."""
    rng = np.random.default_rng(7)
    pack, quantization = _METHODS[method]
    plain, packed = {}, {}
    for name, weight in random_weights(MODEL, rng).items():
        if not name.startswith("model.layers.") or weight.ndim == 1:
            plain[name] = packed[name] = weight
            continue
        codes, zeros, scales = _quantized(weight)
        groups = np.repeat(np.arange(len(zeros)), GROUP)
        values = (codes.astype(np.float32) - zeros[groups]) * scales.astype(np.float32)[groups]
        plain[name] = np.ascontiguousarray(values.T, np.float32)
        prefix = name.removesuffix("weight")
        parts = pack(codes, zeros, scales)
        packed |= {prefix + part: np.ascontiguousarray(array) for part, array in parts.items()}  # or they are misread
    nowhere = folder / "none"
    write_folder(Checkpoint(MODEL, nowhere, plain), folder / "plain", dtype="float32")
    config = {"bits": 4, "group_size": GROUP, "quant_method": method, **quantization}
    write_folder(Checkpoint(MODEL, nowhere, packed), folder / "packed", dtype="float16", quantization_config=config)


def _quantized(weight: npt.NDArray[np.float32]) -> tuple[Codes, Codes, npt.NDArray[np.float16]]:
    """Codes [inputs, outputs], zero points and scales [groups, outputs] of a matrix [outputs, inputs]."""
    grouped = weight.T.reshape(-1, GROUP, weight.shape[0])
    low, high = grouped.min(1), grouped.max(1)
    scales = ((high - low) / 15).astype(np.float16)
    zeros = np.clip(np.rint(-low / scales.astype(np.float32)), 1, 15).astype(np.uint32)
    codes = np.clip(np.rint(grouped / scales.astype(np.float32)[:, None]) + zeros[:, None], 0, 15)
    return codes.reshape(-1, weight.shape[0]).astype(np.uint32), zeros, scales


def _words(nibbles: Codes) -> npt.NDArray[np.int32]:
    """Eight to a word, the first of them lowest; along the last axis."""
    eights = nibbles.reshape(*nibbles.shape[:-1], -1, 8)
    return (eights << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32).view(np.int32)


def _gptq(codes: Codes, zeros: Codes, scales: npt.NDArray[np.float16]) -> dict[str, npt.NDArray[Any]]:
    return {
        "qweight": _words(codes.T).T,
        "qzeros": _words(zeros - 1),
        "scales": scales,
        "g_idx": (np.arange(len(codes)) // GROUP).astype(np.int32),
    }


def _awq(codes: Codes, zeros: Codes, scales: npt.NDArray[np.float16]) -> dict[str, npt.NDArray[Any]]:
    def ordered(nibbles: Codes) -> npt.NDArray[np.int32]:
        eights = nibbles.reshape(len(nibbles), -1, 8)[:, :, list(AWQ_ORDER)]
        return _words(eights.reshape(nibbles.shape))

    return {"qweight": ordered(codes), "qzeros": ordered(zeros), "scales": scales}


_METHODS: dict[str, tuple[Pack, dict[str, Any]]] = {
    "gptq": (_gptq, {"desc_act": False, "sym": False, "checkpoint_format": "gptq"}),
    "awq": (_awq, {"version": "gemm", "zero_point": True}),
}
