"""Quantized matrices: as the reference reads them, never worse than it writes them, the same bytes everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from madang.core.errors import CannotQuantize
from madang.formats.tensors import TensorType
from madang.quantization.encoding import (
    BLOCK_TYPES,
    FLOAT_TYPES,
    READABLE_TYPES,
    WRITABLE_TYPES,
    dequantize,
    quantize,
)
from tests.parity.blocks import any_rows

gguf = pytest.importorskip("gguf")

Matrix = npt.NDArray[np.float32]
# Those that the reference package can write.
SIMPLE = (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0, TensorType.Q5_1, TensorType.Q8_0)
N_COLUMNS = 768

each_type = pytest.mark.parametrize("tensor_type", WRITABLE_TYPES, ids=lambda tensor_type: tensor_type.name)
each_block_type = pytest.mark.parametrize("tensor_type", BLOCK_TYPES, ids=lambda tensor_type: tensor_type.name)


def matrices() -> dict[str, Matrix]:
    """Weights as models have them, and as they rarely do."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((24, N_COLUMNS)).astype(np.float32)
    return {
        "normal": normal * np.float32(0.02),
        "heavy": rng.standard_t(3, normal.shape).astype(np.float32),
        "outliers": normal * np.where(rng.random(normal.shape) < 0.01, 20, 1).astype(np.float32),
        "positive": np.abs(normal) + np.float32(0.5),
        "negative": -np.abs(normal) - np.float32(0.5),
        "grid": rng.integers(-7, 8, normal.shape).astype(np.float32),
    }


def importance(kind: str) -> Matrix | None:
    rng = np.random.default_rng(1)
    if kind == "none":
        return None
    values = np.exp(rng.standard_normal(N_COLUMNS) * (3 if kind == "steep" else 1))
    if kind == "holes":
        values[rng.random(N_COLUMNS) < 0.3] = 0
    return values.astype(np.float32)


def reference(data: npt.NDArray[np.uint8], tensor_type: TensorType) -> Matrix:
    as_stored = data.view({TensorType.F32: "<f4", TensorType.F16: "<f2"}.get(tensor_type, np.uint8))
    values = gguf.quants.dequantize(as_stored, gguf.GGMLQuantizationType(tensor_type))
    return np.array(values, np.float32)


def squared_error(x: Matrix, y: Matrix, weights: Matrix | None = None) -> float:
    difference = (x.astype(np.float64) - y) ** 2
    return float((difference if weights is None else difference * weights).sum())


@pytest.mark.parametrize("tensor_type", READABLE_TYPES, ids=lambda tensor_type: tensor_type.name)
def test_reads_what_the_reference_reads(tensor_type: TensorType) -> None:
    if tensor_type in FLOAT_TYPES:
        data = quantize(matrices()["heavy"], tensor_type, n_threads=1)
    else:
        data = any_rows(tensor_type, 20, N_COLUMNS, np.random.default_rng(0))
    assert np.array_equal(dequantize(data, tensor_type), reference(data, tensor_type))


@each_type
@pytest.mark.parametrize("kind", ["none", "steep", "holes"])
def test_the_reference_reads_what_was_written(tensor_type: TensorType, kind: str) -> None:
    for x in matrices().values():
        data = quantize(x, tensor_type, importance=importance(kind), n_threads=2)
        assert data.dtype == np.uint8
        assert data.shape == (len(x), N_COLUMNS // tensor_type.block_elements * tensor_type.block_bytes)
        values = reference(data, tensor_type)
        assert np.array_equal(dequantize(data, tensor_type), values)
        # Far above what any of these types leaves, far below what a misplaced field would.
        assert squared_error(x, values, importance(kind)) <= 0.15 * squared_error(x, 0 * x, importance(kind))


@pytest.mark.parametrize("tensor_type", SIMPLE, ids=lambda tensor_type: tensor_type.name)
@pytest.mark.parametrize("name", matrices())
def test_never_worse_than_the_reference(tensor_type: TensorType, name: str) -> None:
    x = matrices()[name]
    theirs = gguf.quants.quantize(x, gguf.GGMLQuantizationType(tensor_type))
    ours = quantize(x, tensor_type, n_threads=2)
    assert (
        squared_error(x, dequantize(ours, tensor_type)) <= squared_error(x, dequantize(theirs, tensor_type)) * 1.000001
    )


@each_block_type
def test_importance_moves_the_error_to_where_it_costs_less(tensor_type: TensorType) -> None:
    x, weights = matrices()["heavy"], importance("steep")
    flat = dequantize(quantize(x, tensor_type, n_threads=1), tensor_type)
    weighted = dequantize(quantize(x, tensor_type, importance=weights, n_threads=1), tensor_type)
    assert squared_error(x, weighted, weights) < squared_error(x, flat, weights)
    assert squared_error(x, weighted) > squared_error(x, flat)


@each_block_type
def test_only_ratios_of_importance_count(tensor_type: TensorType) -> None:
    x, weights = matrices()["normal"], importance("steep")
    assert weights is not None
    data = [
        quantize(x, tensor_type, importance=weights * np.float32(factor), n_threads=1)
        for factor in (1, 2.0**-100, 2.0**100)
    ]
    assert np.array_equal(data[0], data[1])
    assert np.array_equal(data[0], data[2])


@each_block_type
@pytest.mark.parametrize("kind", ["none", "holes"])
def test_every_instruction_set_and_number_of_threads_gives_the_same_bytes(tensor_type: TensorType, kind: str) -> None:
    x = np.concatenate(list(matrices().values()))[::3]
    x[1] *= np.float32(1e-6)
    x[2] = 0
    expected = quantize(x, tensor_type, importance=importance(kind), n_threads=1, isa="portable")
    for isa in _core.available_isas():
        for n_threads in (1, 3):
            data = quantize(x, tensor_type, importance=importance(kind), n_threads=n_threads, isa=isa)
            assert np.array_equal(data, expected)


@each_block_type
def test_rows_are_quantized_alone(tensor_type: TensorType) -> None:
    x, weights = matrices()["heavy"], importance("steep")
    together = quantize(x, tensor_type, importance=weights, n_threads=2)
    for row in (0, 5, 23):
        alone = quantize(x[row : row + 1], tensor_type, importance=weights, n_threads=1)
        assert np.array_equal(alone[0], together[row])


@each_type
@pytest.mark.parametrize("value", [0.0, 1.0, -3.25, 1e-5, 6e-8, 1e-20, -1e-38, 1e-44, 60000.0])
def test_rows_of_one_value(tensor_type: TensorType, value: float) -> None:
    """Also what float16 scales can hold only as subnormals, or not at all."""
    x = np.full((2, N_COLUMNS), value, np.float32)
    values = dequantize(quantize(x, tensor_type, n_threads=1), tensor_type)
    assert np.isfinite(values).all()
    assert np.abs(values - x).max() <= abs(value) * 0.02 + 6e-8


@each_type
@pytest.mark.parametrize("value", [1000.0, -65000.0])
def test_one_huge_value(tensor_type: TensorType, value: float) -> None:
    x = matrices()["normal"][:1].copy()
    x[0, 300] = value
    values = dequantize(quantize(x, tensor_type, n_threads=1), tensor_type)
    assert abs(values[0, 300] / value - 1) < 0.05
    assert squared_error(x, values) <= 0.01 * squared_error(x, 0 * x)


@each_type
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(tensor_type: TensorType, value: float) -> None:
    x = matrices()["normal"].copy()
    x[7, 300] = value
    with pytest.raises(CannotQuantize, match="in row 7, column 300"):
        quantize(x, tensor_type, n_threads=1)


def test_what_float16_cannot_hold_is_refused() -> None:
    x = np.full((1, 256), 70000, np.float32)
    for tensor_type in WRITABLE_TYPES:
        if tensor_type in (TensorType.F32, TensorType.BF16):
            assert np.abs(dequantize(quantize(x, tensor_type, n_threads=1), tensor_type) / x - 1).max() < 0.01
        else:
            with pytest.raises(CannotQuantize, match="70000"):
                quantize(x, tensor_type, n_threads=1)


@each_block_type
def test_rows_that_blocks_do_not_divide(tensor_type: TensorType) -> None:
    n_columns = tensor_type.block_elements * 3 // 2
    with pytest.raises(CannotQuantize, match=f"these rows have {n_columns}") as caught:
        quantize(np.zeros((2, n_columns), np.float32), tensor_type, n_threads=1)
    assert "Q4_0" in str(caught.value.hint)


@pytest.mark.parametrize(
    "weights",
    [np.ones(5, np.float32), np.full(256, -1, np.float32), np.full(256, np.nan, np.float32)],
    ids=["length", "negative", "not a number"],
)
def test_bad_importance(weights: Matrix) -> None:
    with pytest.raises(CannotQuantize, match="importance"):
        quantize(np.zeros((1, 256), np.float32), TensorType.Q4_0, importance=weights, n_threads=1)


def test_types_that_are_not_written() -> None:
    with pytest.raises(CannotQuantize, match="does not write the type IQ2_XXS"):
        quantize(np.zeros((1, 256), np.float32), TensorType.IQ2_XXS, n_threads=1)
    with pytest.raises(CannotQuantize, match="does not read the type Q8_1"):
        dequantize(np.zeros((1, 36), np.uint8), TensorType.Q8_1)


def test_importance_of_zero_everywhere_is_none() -> None:
    x = matrices()["normal"]
    zeros = np.zeros(N_COLUMNS, np.float32)
    for tensor_type in BLOCK_TYPES:
        flat = quantize(x, tensor_type, n_threads=1)
        assert np.array_equal(quantize(x, tensor_type, importance=zeros, n_threads=1), flat)


def test_no_rows() -> None:
    assert quantize(np.zeros((0, 256), np.float32), TensorType.Q4_K, n_threads=2).shape == (0, 144)


@each_type
def test_a_grid_that_a_type_contains_is_kept(tensor_type: TensorType) -> None:
    """Quantizing what was quantized in the same type changes next to nothing."""
    once = dequantize(quantize(matrices()["heavy"], tensor_type, n_threads=1), tensor_type)
    twice = dequantize(quantize(once, tensor_type, n_threads=1), tensor_type)
    assert squared_error(once, twice) <= 0.05 * squared_error(once, matrices()["heavy"])


finite = st.floats(width=32, min_value=-65504, max_value=65504, allow_subnormal=True)


@settings(max_examples=60)
@given(
    st.sampled_from(BLOCK_TYPES),
    st.lists(finite, min_size=1, max_size=40),
    st.lists(st.floats(0, 2.0**99, width=32), min_size=1, max_size=20),
)
def test_any_row(tensor_type: TensorType, values: list[float], weights: list[float]) -> None:
    """Whatever the values: numbers, within their range, and no worse than leaving them out."""
    x = np.resize(np.array(values, np.float32), (1, 256))
    repeated: Any = np.resize(np.array(weights, np.float32), 256)
    decoded = dequantize(quantize(x, tensor_type, importance=repeated, n_threads=1), tensor_type)
    assert np.isfinite(decoded).all()
    assert squared_error(x, decoded) <= 256 * float(np.abs(x).max()) ** 2 + 1e-12
