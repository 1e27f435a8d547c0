"""Tensors to and from their bytes in a file, for every type that the native engine runs.

The reference package cannot quantize most types. Parity does not need weights that were quantized well, only blocks
whose values are known, so for these all bits are random but the scales, which are of a size that suits the matrix.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from madang.formats.tensors import TensorType

gguf = pytest.importorskip("gguf")

Octets = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float64]

FLOATS = (TensorType.F32, TensorType.F16, TensorType.BF16)
_QUANTIZED = (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0, TensorType.Q5_1, TensorType.Q8_0)
# Where the float16 scale of a block lies, if not at its beginning; a minimum follows it.
_SCALE_AT = {
    TensorType.Q2_K: 80,
    TensorType.Q3_K: 108,
    TensorType.Q6_K: 208,
    TensorType.TQ1_0: 52,
    TensorType.TQ2_0: 64,
}
# What a minimum must be, with scales of 1 and random bytes, to make the mean of the values 0.
_MINIMUM = {
    TensorType.Q4_1: -7.5,
    TensorType.Q5_1: -15.5,
    TensorType.Q2_K: 1.5,
    TensorType.Q4_K: 7.5,
    TensorType.Q5_K: 15.5,
}
_LARGEST_EXPONENT = 252  # of MXFP4, without overflow


def encode(weight: npt.NDArray[np.float32], tensor_type: TensorType, rng: np.random.Generator) -> npt.NDArray[Any]:
    """The bytes of ``weight``, [rows, bytes of a row] (floats as they are); of most types only its size counts."""
    if tensor_type not in (*FLOATS, *_QUANTIZED):
        rows, columns = weight.shape
        return random_rows(tensor_type, rows, columns, rng, deviation=float(weight.std()))
    quantized: npt.NDArray[Any] = gguf.quants.quantize(weight, gguf.GGMLQuantizationType(tensor_type))
    return quantized


def decode(encoded: npt.NDArray[Any], tensor_type: TensorType) -> npt.NDArray[np.float32]:
    """What the bytes stand for."""
    values = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(tensor_type))
    return np.array(values, np.float32)


def random_rows(
    tensor_type: TensorType, rows: int, columns: int, rng: np.random.Generator, *, deviation: float
) -> Octets:
    """Rows in which every bit that may be either is random, and the values are around 0."""
    blocks = _random_blocks(tensor_type, rows * columns, rng)
    _put_scales(blocks, tensor_type, rng.uniform(0.5, 1.5, len(blocks)) * deviation / _deviation(tensor_type))
    return blocks.reshape(rows, -1)


def filled_rows(tensor_type: TensorType, rows: int, columns: int, byte: int) -> Octets:
    """Rows whose quants and small scales are all of that byte, with values of 1 or so."""
    blocks = np.full_like(_random_blocks(tensor_type, rows * columns, np.random.default_rng(0)), byte)
    _put_scales(blocks, tensor_type, np.full(len(blocks), 1 / _deviation(tensor_type)))
    return blocks.reshape(rows, -1)


def any_rows(tensor_type: TensorType, rows: int, columns: int, rng: np.random.Generator) -> Octets:
    """Rows of random bits, scales included, as long as they are numbers."""
    blocks = _random_blocks(tensor_type, rows * columns, rng)
    if tensor_type is TensorType.MXFP4:
        blocks[:, 0] = rng.integers(0, _LARGEST_EXPONENT + 1, len(blocks))
    else:
        halves = rng.integers(0, 1 << 16, (2, len(blocks)), np.uint16)
        halves[halves & 0x7C00 == 0x7C00] ^= 0x4000
        _put_halves(blocks, tensor_type, *halves.view(np.float16))
    return blocks.reshape(rows, -1)


def put_bad_scale(row: Octets, tensor_type: TensorType, value: float, block: int = 0) -> None:
    """Infinity or NaN in one block of a row."""
    blocks = row.reshape(-1, tensor_type.block_bytes)[block : block + 1]
    if tensor_type is TensorType.MXFP4:
        blocks[:, 0] = 255
    else:
        bad = np.array([value], np.float16)
        _put_halves(blocks, tensor_type, bad, bad)


def _random_blocks(tensor_type: TensorType, n_elements: int, rng: np.random.Generator) -> Octets:
    n = n_elements // tensor_type.block_elements
    return rng.integers(0, 256, (n, tensor_type.block_bytes), np.uint8)


@cache
def _deviation(tensor_type: TensorType) -> float:
    """Of the values in random blocks with scales of 1."""
    blocks = _random_blocks(tensor_type, 1 << 16, np.random.default_rng(0))
    _put_scales(blocks, tensor_type, np.ones(len(blocks)))
    return float(decode(blocks, tensor_type).std())


def _put_scales(blocks: Octets, tensor_type: TensorType, scales: Scales) -> None:
    if tensor_type is TensorType.MXFP4:
        blocks[:, 0] = np.rint(np.log2(scales)) + 128  # the format's values are doubled, its scales halved
    else:
        _put_halves(blocks, tensor_type, scales, scales * _MINIMUM.get(tensor_type, 0))


def _put_halves(blocks: Octets, tensor_type: TensorType, scales: npt.NDArray[Any], minima: npt.NDArray[Any]) -> None:
    halves = scales.astype("<f2").view("<u2")
    if tensor_type is TensorType.IQ1_M:  # four bits each at the top of four words
        words = blocks[:, 48:].copy().view("<u2")
        words &= 0x0FFF
        words |= halves[:, None] << np.array([12, 8, 4, 0], np.uint16) & np.uint16(0xF000)
        blocks[:, 48:] = words.view(np.uint8)
        return
    at = _SCALE_AT.get(tensor_type, 0)
    blocks[:, at : at + 2] = halves[:, None].view(np.uint8)
    if tensor_type in _MINIMUM:
        blocks[:, at + 2 : at + 4] = minima.astype("<f2")[:, None].view(np.uint8)
