"""Tensors to and from their bytes in a file, for every type that the native engine runs.

The reference package cannot quantize K-types. Parity does not need weights that were quantized well, only blocks whose
values are known, so for these the quants and the small scales are random, and of a size that suits the matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from madang.formats.tensors import TensorType

gguf = pytest.importorskip("gguf")

Octets = npt.NDArray[np.uint8]

_QUANTIZED = TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0, TensorType.Q5_1, TensorType.Q8_0
# Bytes of the scale of a whole block, and of its minimum; all others are quants and small scales.
_SCALE_AT = {**dict.fromkeys(_QUANTIZED, 0), TensorType.Q4_K: 0, TensorType.Q5_K: 0, TensorType.Q6_K: 208}
_MINIMUM_AT = dict.fromkeys((TensorType.Q4_1, TensorType.Q5_1, TensorType.Q4_K, TensorType.Q5_K), 2)
# With random bytes and scales of 1: the deviation of the values, and what a minimum must be to make their mean 0.
_DEVIATION = {TensorType.Q4_K: 270.0, TensorType.Q5_K: 550.0, TensorType.Q6_K: 1420.0, TensorType.Q8_0: 74.0}
_DEVIATION |= {TensorType.Q4_0: 4.6, TensorType.Q4_1: 4.6, TensorType.Q5_0: 9.2, TensorType.Q5_1: 9.2}
_MINIMUM = {TensorType.Q4_1: -7.5, TensorType.Q5_1: -15.5, TensorType.Q4_K: 7.5, TensorType.Q5_K: 15.5}


def encode(weight: npt.NDArray[np.float32], tensor_type: TensorType, rng: np.random.Generator) -> npt.NDArray[Any]:
    """The bytes of ``weight``, [rows, bytes of a row] (floats as they are); for K-types only its size counts."""
    if tensor_type in _SCALE_AT and tensor_type not in _QUANTIZED:
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
    n = rows * columns // tensor_type.block_elements
    blocks = rng.integers(0, 256, (n, tensor_type.block_bytes), np.uint8)
    scales = rng.uniform(0.5, 1.5, n) * deviation / _DEVIATION[tensor_type]
    _put_halves(blocks, _SCALE_AT[tensor_type], scales)
    if tensor_type in _MINIMUM_AT:
        _put_halves(blocks, _MINIMUM_AT[tensor_type], scales * _MINIMUM[tensor_type])
    return blocks.reshape(rows, -1)


def _put_halves(blocks: Octets, at: int, values: npt.NDArray[np.float64]) -> None:
    blocks[:, at : at + 2] = values.astype("<f2")[:, None].view(np.uint8)
