"""What each type would do to each matrix, without running the model: the error of its outputs.

And the matrices in their new types, which are kept in a folder: the same ones are asked for many times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from madang.formats.tensors import Octets, TensorType
from madang.quantization.encoding import Matrix, dequantize, quantize
from madang.quantization.importance import with_floor
from madang.quantization.journal import Journal
from madang.quantization.matrices import Part, QuantizableMatrix
from madang.quantization.rounding import Feedback, output_error

# Smallest first. Q4_0 and Q4_1 are left out: IQ4_NL and Q5_0 lose less at the same bytes.
BUDGET_TYPES: Final = (
    TensorType.Q2_K,
    TensorType.Q3_K,
    TensorType.IQ4_XS,
    TensorType.IQ4_NL,
    TensorType.Q4_K,
    TensorType.Q5_0,
    TensorType.Q5_K,
    TensorType.Q5_1,
    TensorType.Q6_K,
    TensorType.Q8_0,
    TensorType.F16,
)
SAMPLED_ROWS: Final = 384  # of a matrix, for its errors
# By which feedback is judged, for types with blocks of as many columns.
_PROBES: Final = (TensorType.IQ4_NL, TensorType.Q4_K)


class Encoder:
    """Matrices of one model in other types."""

    def __init__(
        self,
        folder: Path,
        importance: Mapping[str, npt.NDArray[np.float32]],
        grams: Mapping[str, npt.NDArray[np.float32]],
        *,
        n_threads: int,
    ) -> None:
        """``importance`` by the file's names, ``grams`` by canonical ones; what has none is rounded without."""
        self._folder, self._importance, self._grams, self._n_threads = folder, importance, grams, n_threads
        self._feedback: tuple[str, Feedback] | None = None
        self._journal = Journal(folder / "errors.jsonl")

    def encode(self, matrix: QuantizableMatrix, tensor_type: TensorType, *, feedback: bool = True) -> Octets:
        """The bytes in that type, [n_rows, row_bytes]."""
        path = self._folder / f"{matrix.name}.{tensor_type.name}{'' if feedback else '.plain'}.npy"
        if path.exists():
            kept: Octets = np.load(path)
            return kept
        data = self._encode(matrix.read(), matrix, tensor_type, feedback)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, data)
        unfinished.replace(path)
        return data

    def errors(self, matrix: QuantizableMatrix, tensor_type: TensorType) -> float:
        """The error of the outputs in that type, estimated: with feedback judged by one type of the same blocks."""
        values: list[Matrix] = []  # read once, when the first figure is missing

        def error(of: TensorType, feedback: bool) -> float:
            if not values:
                values.append(matrix.read())
            return self._error(values[0], matrix, of, feedback)

        def figure(of: TensorType, feedback: bool) -> float:
            kind = "feedback" if feedback else "plain"
            return self._journal.figure(f"{matrix.name} {of.name} {kind}", lambda: error(of, feedback))

        plain = figure(tensor_type, False)
        width = tensor_type.block_elements
        probe = next((probe for probe in _PROBES if probe.block_elements == width), None)
        if probe is None or not self._has_gram(matrix):
            return plain
        return plain * figure(probe, True) / max(figure(probe, False), float(np.finfo(np.float64).tiny))

    def _has_gram(self, matrix: QuantizableMatrix) -> bool:
        return any(part.canonical in self._grams for part in matrix.parts)

    def _error(self, values: Matrix, matrix: QuantizableMatrix, tensor_type: TensorType, feedback: bool) -> float:
        """From some of the rows of each part."""
        total = 0.0
        for part in matrix.parts:
            own = values[part.begin_row : part.end_row]
            sample = np.ascontiguousarray(own[:: -(-len(own) // SAMPLED_ROWS)])
            data = self._encode_part(sample, matrix, part, tensor_type, feedback)
            error = output_error(sample, dequantize(data, tensor_type), self._grams.get(part.canonical))
            total += error * len(own) / len(sample)
        return total

    def _encode(self, values: Matrix, matrix: QuantizableMatrix, tensor_type: TensorType, feedback: bool) -> Octets:
        parts = [
            self._encode_part(values[part.begin_row : part.end_row], matrix, part, tensor_type, feedback)
            for part in matrix.parts
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _encode_part(
        self, own: Matrix, matrix: QuantizableMatrix, part: Part, tensor_type: TensorType, feedback: bool
    ) -> Octets:
        importance = self._importance_of(matrix, part)
        if feedback and part.canonical in self._grams:
            rounding = self._feedback_of(part)
            return rounding.quantize(own, tensor_type, importance=importance, n_threads=self._n_threads)
        return quantize(own, tensor_type, importance=importance, n_threads=self._n_threads)

    def _importance_of(self, matrix: QuantizableMatrix, part: Part) -> Matrix | None:
        found = self._importance.get(matrix.name)
        if found is not None and found.ndim == 2:
            found = found[part.begin_row * len(found) // matrix.n_rows]
        if found is None or not found.any():  # an expert that no token took
            return None
        return with_floor(found)

    def _feedback_of(self, part: Part) -> Feedback:
        """The last one is kept: it serves several types, and takes long to make."""
        if self._feedback is None or self._feedback[0] != part.canonical:
            self._feedback = (part.canonical, Feedback(self._grams[part.canonical]))
        return self._feedback[1]


def possible_types(matrix: QuantizableMatrix, types: Sequence[TensorType] = BUDGET_TYPES) -> list[TensorType]:
    """Those whose blocks divide its rows."""
    return [tensor_type for tensor_type in types if matrix.n_columns % tensor_type.block_elements == 0]
