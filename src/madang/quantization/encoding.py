"""Float32 matrices to the bytes of a tensor type, and back.

Each block gets the scales and quants that leave, as far as a search finds them, the smallest squared error, weighted
with the importance of its columns (csrc/quantizers).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.errors import CannotQuantize
from madang.formats.tensors import TensorType

Matrix: TypeAlias = npt.NDArray[np.float32]
Octets: TypeAlias = npt.NDArray[np.uint8]

FLOAT_TYPES: Final = (TensorType.F32, TensorType.F16, TensorType.BF16)
BLOCK_TYPES: Final = (
    TensorType.Q4_0,
    TensorType.Q4_1,
    TensorType.Q5_0,
    TensorType.Q5_1,
    TensorType.Q8_0,
    TensorType.Q2_K,
    TensorType.Q3_K,
    TensorType.Q4_K,
    TensorType.Q5_K,
    TensorType.Q6_K,
    TensorType.IQ4_NL,
    TensorType.IQ4_XS,
)
WRITABLE_TYPES: Final = FLOAT_TYPES + BLOCK_TYPES
READABLE_TYPES: Final = tuple(TensorType(type_id) for type_id, _ in _core.tensor_types())
# The scales of blocks are float16. Weights beyond its range are not weights that a model computes with.
_LARGEST_HALF: Final = float(np.finfo(np.float16).max)
_LARGEST: Final = {TensorType.F32: float(np.finfo(np.float32).max), TensorType.BF16: float.fromhex("0x1.fep127")}


def quantize(
    values: Matrix,
    tensor_type: TensorType,
    *,
    importance: Matrix | None = None,
    passed_on: Matrix | None = None,
    n_threads: int,
    isa: str = "",
) -> Octets:
    """The bytes of ``values`` [n_rows, n_columns] in ``tensor_type``: uint8 [n_rows, row_bytes].

    importance   [n_columns], the cost of an error in each column: the mean square of the input that it multiplies. Only
                 ratios count. Without it all columns count the same. Floats are rounded to nearest, whatever it is
    passed_on    [n_columns, n_columns], for error feedback: column i gives passed_on[i, j] of what column j < i lost
                 (:class:`~madang.quantization.rounding.Feedback`). Types without blocks have none
    isa          instruction set; the best of this machine by default. The bytes are the same from each

    Raises :class:`CannotQuantize` where rows are not a whole number of blocks, a value is NaN, infinite or beyond the
    range of float16 (for F32 and BF16: of float32), the importance is negative, not finite or of another length, or the
    type is not in ``WRITABLE_TYPES``.
    """
    if tensor_type not in WRITABLE_TYPES:
        raise CannotQuantize(f"madang does not write the type {tensor_type.name}", hint=f"It writes {_names()}.")
    require_whole_blocks(values.shape[1], tensor_type)
    _require_range(values, tensor_type)
    if tensor_type in FLOAT_TYPES:
        return _as_floats(values, tensor_type)
    weights = None if importance is None else _checked_importance(importance, values.shape[1])
    rows = np.ascontiguousarray(values, np.float32)
    return _core.quantized(int(tensor_type), rows, weights, passed_on, n_threads, isa)


def dequantize(data: Octets, tensor_type: TensorType) -> Matrix:
    """The values of ``data`` [n_rows, row_bytes]: float32 [n_rows, n_columns].

    Raises :class:`CannotQuantize` for a type that is not in ``READABLE_TYPES``, and where a value is NaN or infinite.
    """
    if tensor_type not in READABLE_TYPES:
        raise CannotQuantize(f"madang does not read the type {tensor_type.name}")
    if tensor_type in FLOAT_TYPES:
        return _from_floats(data, tensor_type)
    n_rows, row_bytes = data.shape
    n_columns = row_bytes // tensor_type.block_bytes * tensor_type.block_elements
    try:
        return _core.unpacked(int(tensor_type), n_rows, n_columns, np.ascontiguousarray(data).reshape(-1))
    except ValueError as error:
        raise CannotQuantize(f"{tensor_type.name}: {error}") from error


def require_whole_blocks(n_columns: int, tensor_type: TensorType) -> None:
    """Raises :class:`CannotQuantize` for rows that the blocks of a type do not divide."""
    if n_columns % tensor_type.block_elements:
        raise CannotQuantize(
            f"{tensor_type.name} has blocks of {tensor_type.block_elements} columns, these rows have {n_columns}",
            hint="Q4_0, IQ4_NL, Q5_0 and Q8_0 have blocks of 32 columns, F16 and BF16 of one.",
        )


def _require_range(values: Matrix, tensor_type: TensorType) -> None:
    """Two reductions instead of a matrix of booleans: NaN fails both comparisons."""
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    limit = _LARGEST.get(tensor_type, _LARGEST_HALF)
    if not (low >= -limit and high <= limit):
        row, column = np.argwhere(~(np.abs(values) <= limit))[0]
        raise CannotQuantize(
            f"{tensor_type.name} cannot hold the value {values[row, column]} in row {row}, column {column}"
        )


def _checked_importance(importance: Matrix, n_columns: int) -> Matrix:
    if importance.shape != (n_columns,):
        raise CannotQuantize(f"the importance has the shape {importance.shape} for rows of {n_columns} columns")
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise CannotQuantize("the importance has values that are negative or not finite")
    return np.ascontiguousarray(importance, np.float32)


def _as_floats(values: Matrix, tensor_type: TensorType) -> Octets:
    floats: npt.NDArray[Any]
    if tensor_type is TensorType.F32:
        floats = values.astype("<f4")
    elif tensor_type is TensorType.F16:
        floats = values.astype("<f2")
    else:  # to nearest, halves to even: add just below half of what is cut off, and one more where the rest is odd
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        floats = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2")
    return np.ascontiguousarray(floats).view(np.uint8).reshape(len(values), -1)


def _from_floats(data: Octets, tensor_type: TensorType) -> Matrix:
    data = np.ascontiguousarray(data)
    values: Matrix
    if tensor_type is TensorType.BF16:
        values = (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = data.view("<f2" if tensor_type is TensorType.F16 else "<f4").astype(np.float32)
    if values.size and not np.isfinite(values.sum(dtype=np.float64)):
        raise CannotQuantize(f"{tensor_type.name}: the matrix holds NaN or infinity")
    return values


def _names() -> str:
    return ", ".join(tensor_type.name for tensor_type in WRITABLE_TYPES)
