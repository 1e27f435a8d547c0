"""Error feedback: what columns lose when they are rounded, those after them make up for, as far as inputs go together.

The update is that of Optimal Brain Quantization (arXiv:2208.11580) in GPTQ's order (arXiv:2210.17323), column by
column. The scales of a block are chosen before its columns are rounded, from what is left to say then, so it serves
every type of blocks, and the result is an ordinary tensor of that type.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from madang.formats.tensors import TensorType
from madang.quantization.encoding import Matrix, Octets, quantize

DAMPING: Final = 0.01  # of the mean of the diagonal: a text shows some directions hardly or not at all
_SLAB_ROWS: Final = 4096  # that are rounded at a time


class Feedback:
    """What the inputs of a matrix say of which columns can stand in for which."""

    def __init__(self, gram: npt.NDArray[np.float32]) -> None:
        """``gram`` is E[x xᵀ] of the inputs, [n_columns, n_columns]."""
        hessian = gram.astype(np.float64)
        diagonal = np.einsum("ii->i", hessian)
        diagonal += max(DAMPING * float(diagonal.mean()), float(np.finfo(np.float32).tiny))
        # The upper factor of the inverse: its rows are what each column passes on, once those before it are fixed.
        factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
        self._passed_on = np.ascontiguousarray((factor / np.diagonal(factor)[:, None]).T, np.float32)

    def quantize(
        self, values: Matrix, tensor_type: TensorType, *, importance: Matrix | None = None, n_threads: int
    ) -> Octets:
        """As ``encoding.quantize``, with feedback from each column to those after it."""
        return quantize(values, tensor_type, importance=importance, passed_on=self._passed_on, n_threads=n_threads)


def output_error(values: Matrix, rounded: Matrix, gram: npt.NDArray[np.float32] | None) -> float:
    """The mean squared error of the outputs, summed over rows; without a gram, of the weights themselves."""
    total, step = 0.0, _SLAB_ROWS
    for begin in range(0, len(values), step):
        error = values[begin : begin + step] - rounded[begin : begin + step]
        total += float(np.einsum("ij,ij->", error if gram is None else error @ gram, error, dtype=np.float64))
    return total
