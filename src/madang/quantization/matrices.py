"""The matrices of a model file that can be kept in fewer bits, and how the decoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from madang.formats.gguf import GGUFFile
from madang.formats.reading import OpenFile
from madang.formats.spec import ModelDescription
from madang.formats.tensors import Octets, TensorInfo, TensorType
from madang.quantization.encoding import Matrix, dequantize

# Small, and much depends on them: which experts are taken, where a token stands, norms of each head.
_KEPT: Final = frozenset({"router", "position_embedding", "type_embedding", "query_norm", "key_norm", "bias"})


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file's tensor that are one matrix of the decoder."""

    canonical: str
    begin_row: int
    end_row: int

    @property
    def kind(self) -> str:
        """Its name without layer and expert."""
        return self.canonical.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class QuantizableMatrix:
    """A tensor of the file, [n_rows, n_columns] once its slower dimensions are taken together, and its parts."""

    tensor: TensorInfo
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """In the file."""
        return self.tensor.name

    @property
    def n_columns(self) -> int:
        """Elements of a row."""
        return self.tensor.shape[-1]

    @property
    def n_rows(self) -> int:
        """Of all parts."""
        return prod(self.tensor.shape[:-1])

    @property
    def kind(self) -> str:
        """What its first part is."""
        return self.parts[0].kind

    @property
    def layer(self) -> int | None:
        """None outside of the layers."""
        first = self.parts[0].canonical.partition(".")[0]
        return int(first) if first.isdecimal() else None

    def size_bytes(self, tensor_type: TensorType) -> int:
        """Of the tensor in that type."""
        return self.n_rows * (self.n_columns // tensor_type.block_elements) * tensor_type.block_bytes

    def read(self) -> Matrix:
        """Its values, float32 [n_rows, n_columns]. Raises what OpenFile raises."""
        begin, end = self.tensor.file_range
        with OpenFile(self.tensor.path) as file:
            data = file.read(begin, end - begin)
        return dequantize(data.reshape(self.n_rows, -1), self.tensor.type)

    def exchange(self, tensor_type: TensorType, data: Octets) -> dict[str, tuple[TensorType, Octets]]:
        """What the decoder takes for ``data``, [n_rows, row_bytes], by canonical name."""
        return {
            part.canonical: (tensor_type, np.ascontiguousarray(data[part.begin_row : part.end_row]))
            for part in self.parts
        }


def quantizable_matrices(file: GGUFFile, description: ModelDescription) -> list[QuantizableMatrix]:
    """In the order of the file. Tensors that a family reads in another form, and those that must stay, are left out."""
    parts: dict[str, list[Part]] = {}
    for canonical, source in description.tensors.items():
        tensor = file.tensors.get(source.name)
        if tensor is None or not isinstance(source, TensorInfo) or len(source.shape) != 2:
            continue
        n_rows = prod(tensor.shape[:-1])
        begin = (source.offset_bytes - tensor.offset_bytes) * n_rows // tensor.size_bytes
        part = Part(canonical, begin, begin + source.shape[0])
        if part.kind not in _KEPT and part.end_row - part.begin_row > 1:
            parts.setdefault(tensor.name, []).append(part)
    return [
        QuantizableMatrix(tensor, tuple(sorted(parts[name], key=lambda part: part.begin_row)))
        for name, tensor in file.tensors.items()
        if name in parts and _is_whole(tensor, parts[name])
    ]


def _is_whole(tensor: TensorInfo, parts: list[Part]) -> bool:
    return sum(part.end_row - part.begin_row for part in parts) == prod(tensor.shape[:-1])


def group_of(matrix: QuantizableMatrix, n_layers: int) -> str:
    """Matrices whose sensitivity is corrected together: the same kind, in the same third of the layers."""
    return matrix.kind if matrix.layer is None else f"{matrix.kind} {3 * matrix.layer // n_layers}"


def by_name(matrices: list[QuantizableMatrix]) -> Mapping[str, QuantizableMatrix]:
    """The same, to look up."""
    return {matrix.name: matrix for matrix in matrices}
