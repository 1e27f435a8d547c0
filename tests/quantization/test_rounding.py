"""Error feedback makes the outputs better at the same bytes, and leaves alone what it cannot help."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from madang.formats.tensors import TensorType
from madang.quantization.encoding import dequantize, quantize
from madang.quantization.rounding import Feedback, output_error

COLUMNS = 512


def correlated_inputs(n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Rows that mostly lie in a few directions, as hidden states do."""
    draw = np.random.default_rng(seed)
    few = draw.normal(size=(n, 24)) @ draw.normal(size=(24, COLUMNS))
    rows: npt.NDArray[np.float32] = (few + 0.3 * draw.normal(size=(n, COLUMNS))).astype(np.float32)
    return rows


@pytest.mark.parametrize("tensor_type", [TensorType.IQ4_NL, TensorType.Q5_0, TensorType.Q8_0, TensorType.Q4_K])
def test_outputs_lose_less_also_on_inputs_that_were_not_seen(tensor_type: TensorType) -> None:
    weights = np.random.default_rng(1).normal(size=(40, COLUMNS)).astype(np.float32)
    inputs, others = np.split(correlated_inputs(8192), 2)
    gram, other_gram = (rows.T @ rows / np.float32(len(rows)) for rows in (inputs, others))
    importance = np.ascontiguousarray(gram.diagonal())
    plain = quantize(weights, tensor_type, importance=importance, n_threads=1)
    fed = Feedback(gram).quantize(weights, tensor_type, importance=importance, n_threads=1)
    assert fed.shape == plain.shape
    errors = [output_error(weights, dequantize(data, tensor_type), other_gram) for data in (fed, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_independent_inputs_leave_nothing_to_feed_back() -> None:
    weights = np.random.default_rng(1).normal(size=(10, 96)).astype(np.float32)
    fed = Feedback(np.eye(96, dtype=np.float32)).quantize(weights, TensorType.Q5_0, n_threads=1)
    assert np.array_equal(fed, quantize(weights, TensorType.Q5_0, n_threads=1))


def test_rows_do_not_depend_on_each_other() -> None:
    """However many are rounded at a time."""
    weights = np.random.default_rng(1).normal(size=(5000, 64)).astype(np.float32)
    rows = correlated_inputs(512)[:, :64]
    feedback = Feedback(rows.T @ rows)
    whole = feedback.quantize(weights, TensorType.Q5_0, n_threads=2)
    assert np.array_equal(whole[4990:], feedback.quantize(weights[4990:], TensorType.Q5_0, n_threads=1))


def test_inputs_that_never_come_are_no_problem() -> None:
    gram = np.zeros((64, 64), np.float32)
    weights = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    assert np.array_equal(
        Feedback(gram).quantize(weights, TensorType.Q8_0, n_threads=1), quantize(weights, TensorType.Q8_0, n_threads=1)
    )
    gram[3, 3] = 1
    Feedback(gram).quantize(weights, TensorType.Q8_0, n_threads=1)


def test_the_error_of_outputs_is_what_outputs_differ_by() -> None:
    weights, rounded = np.random.default_rng(1).normal(size=(2, 6, 32)).astype(np.float32)
    rows = correlated_inputs(100)[:, :32]
    wanted = np.square((weights - rounded).astype(np.float64) @ rows.T.astype(np.float64)).mean(axis=1).sum()
    assert output_error(weights, rounded, rows.T @ rows / np.float32(100)) == pytest.approx(wanted, rel=1e-4)
    assert output_error(weights, rounded, None) == pytest.approx(np.square(weights - rounded).sum(), rel=1e-5)
