"""What counts against a number of bytes: a file, or what the native engine makes of it in memory.

These differ by type: some are padded or widened when they are packed for this machine's kernels, and a file's header
and padding are not loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType
from madang.hardware import packed_weights_bytes
from madang.quantization.matrices import QuantizableMatrix
from madang.quantization.workbench import Mix

_ALIGNMENT: Final = 32


@dataclass(frozen=True, slots=True)
class Counting:
    """Bytes of a model with some matrices in other types.

    name            what they are bytes of
    fixed_bytes     of everything but the matrices
    matrix_bytes    of one of them in a type
    """

    name: str
    fixed_bytes: int
    matrix_bytes: Callable[[QuantizableMatrix, TensorType], int]

    def total_bytes(self, matrices: Sequence[QuantizableMatrix], mix: Mix) -> int:
        """All of it, with these types."""
        return self.fixed_bytes + sum(self.matrix_bytes(matrix, mix[matrix.name]) for matrix in matrices)


def file_bytes(matrix: QuantizableMatrix, tensor_type: TensorType) -> int:
    """What it takes in the file, padding included."""
    return -(-matrix.size_bytes(tensor_type) // _ALIGNMENT) * _ALIGNMENT


def loaded_bytes(matrix: QuantizableMatrix, tensor_type: TensorType) -> int:
    """What its parts take in memory."""
    rows = (part.end_row - part.begin_row for part in matrix.parts)
    return packed_weights_bytes(
        replace(matrix.tensor, type=tensor_type, shape=(n_rows, matrix.n_columns)) for n_rows in rows
    )


def in_memory(description: ModelDescription, matrices: Sequence[QuantizableMatrix]) -> Counting:
    """Of the weights that are loaded."""
    changed = {part.canonical for matrix in matrices for part in matrix.parts}
    others = [tensor for name, tensor in description.tensors.items() if name not in changed]
    return Counting("memory", packed_weights_bytes(others), loaded_bytes)
