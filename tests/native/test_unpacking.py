"""Weights packed for the kernels are the weights of the file, to the bit; what is not a number is found on the way."""

from __future__ import annotations

import numpy as np
import pytest

from madang import _core
from madang.formats.tensors import TensorType
from tests.parity.blocks import FLOATS, any_rows, decode, put_bad_scale, random_rows

RUNNABLE = [TensorType(type_id) for type_id, _ in _core.tensor_types()]
QUANTIZED = [tensor_type for tensor_type in RUNNABLE if tensor_type not in FLOATS]
FLOAT_DTYPES = {TensorType.F32: np.uint32, TensorType.F16: np.uint16, TensorType.BF16: np.uint16}
EXPONENTS = {TensorType.F32: 0x7F80_0000, TensorType.F16: 0x7C00, TensorType.BF16: 0x7F80}

each_quantized_type = pytest.mark.parametrize("tensor_type", QUANTIZED, ids=lambda tensor_type: tensor_type.name)
each_float_type = pytest.mark.parametrize("tensor_type", FLOATS, ids=lambda tensor_type: tensor_type.name)


def test_sizes_in_files_are_those_of_the_format() -> None:
    assert dict(_core.tensor_types()) == {int(t): (t.block_elements, t.block_bytes) for t in RUNNABLE}


# Fewer rows than lanes, as many, and more; one block of columns and many. The last has every entry of every grid.
@each_quantized_type
@pytest.mark.parametrize(("rows", "n_blocks"), [(1, 1), (15, 3), (16, 8), (37, 2), (100, 24)])
def test_every_bit(tensor_type: TensorType, rows: int, n_blocks: int) -> None:
    columns = n_blocks * tensor_type.block_elements
    encoded = any_rows(tensor_type, rows, columns, np.random.default_rng(rows))
    actual = _core.unpacked(int(tensor_type), rows, columns, encoded.reshape(-1))
    assert np.array_equal(actual, decode(encoded, tensor_type))


@each_float_type
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (17, 5), (40, 64)])
def test_every_float(tensor_type: TensorType, rows: int, columns: int) -> None:
    dtype, exponent = FLOAT_DTYPES[tensor_type], EXPONENTS[tensor_type]
    bits = np.random.default_rng(rows).integers(0, np.iinfo(dtype).max, (rows, columns), dtype, endpoint=True)
    bits[bits & exponent == exponent] = 0
    actual = _core.unpacked(int(tensor_type), rows, columns, bits.view(np.uint8).reshape(-1))
    floats = {TensorType.F32: "<f4", TensorType.F16: "<f2"}
    assert np.array_equal(actual, decode(bits.view(floats.get(tensor_type, np.uint8)), tensor_type))


@each_quantized_type
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_scale_that_is_not_a_number(tensor_type: TensorType, value: float) -> None:
    columns = 3 * tensor_type.block_elements
    encoded = random_rows(tensor_type, 18, columns, np.random.default_rng(0), deviation=1.0)
    assert np.isfinite(_core.unpacked(int(tensor_type), 18, columns, encoded.reshape(-1))).all()
    put_bad_scale(encoded[17], tensor_type, value, block=2)
    with pytest.raises(ValueError, match="NaN or infinity"):
        _core.unpacked(int(tensor_type), 18, columns, encoded.reshape(-1))


@each_float_type
@pytest.mark.parametrize("extra", [0, 1])
def test_a_float_that_is_not_a_number(tensor_type: TensorType, extra: int) -> None:
    """Infinity, and NaN with the smallest payload."""
    bits = np.zeros((17, 6), FLOAT_DTYPES[tensor_type])
    bits[16, 5] = EXPONENTS[tensor_type] + extra
    with pytest.raises(ValueError, match="NaN or infinity"):
        _core.unpacked(int(tensor_type), 17, 6, bits.view(np.uint8).reshape(-1))


def test_bytes_of_another_size() -> None:
    with pytest.raises(ValueError, match="not those of such a matrix"):
        _core.unpacked(int(TensorType.Q8_0), 2, 64, np.zeros(100, np.uint8))
    with pytest.raises(ValueError, match="whole number of its type's blocks"):
        _core.unpacked(int(TensorType.Q2_K), 1, 64, np.zeros(84, np.uint8))
    for n in (int(TensorType.Q8_1), 1000):
        with pytest.raises(ValueError, match=f"tensor type {n} is not one of this engine"):
            _core.packed_bytes(n, 1, 32)
