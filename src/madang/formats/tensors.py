"""Tensor types and where a tensor's bytes lie in its file. Every other room reads sizes from this table.

Source of ids and block sizes: the GGUF specification (ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt


class TensorType(IntEnum):
    """GGUF type ids. Numbers of removed types are not reused."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39

    @property
    def block_elements(self) -> int:
        """Elements that share one block; a row is a whole number of blocks."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return _BLOCKS[self][1]

    @property
    def bits_per_element(self) -> float:
        """Storage cost, scales included."""
        return 8 * self.block_bytes / self.block_elements


_BLOCKS: dict[TensorType, tuple[int, int]] = {
    TensorType.F32: (1, 4),
    TensorType.F16: (1, 2),
    TensorType.Q4_0: (32, 18),
    TensorType.Q4_1: (32, 20),
    TensorType.Q5_0: (32, 22),
    TensorType.Q5_1: (32, 24),
    TensorType.Q8_0: (32, 34),
    TensorType.Q8_1: (32, 36),
    TensorType.Q2_K: (256, 84),
    TensorType.Q3_K: (256, 110),
    TensorType.Q4_K: (256, 144),
    TensorType.Q5_K: (256, 176),
    TensorType.Q6_K: (256, 210),
    TensorType.Q8_K: (256, 292),
    TensorType.IQ2_XXS: (256, 66),
    TensorType.IQ2_XS: (256, 74),
    TensorType.IQ3_XXS: (256, 98),
    TensorType.IQ1_S: (256, 50),
    TensorType.IQ4_NL: (32, 18),
    TensorType.IQ3_S: (256, 110),
    TensorType.IQ2_S: (256, 82),
    TensorType.IQ4_XS: (256, 136),
    TensorType.I8: (1, 1),
    TensorType.I16: (1, 2),
    TensorType.I32: (1, 4),
    TensorType.I64: (1, 8),
    TensorType.F64: (1, 8),
    TensorType.IQ1_M: (256, 56),
    TensorType.BF16: (1, 2),
    TensorType.TQ1_0: (256, 54),
    TensorType.TQ2_0: (256, 66),
    TensorType.MXFP4: (32, 17),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor in a file.

    shape          row-major, slowest first: a weight of ``n_out x n_in`` is ``(n_out, n_in)`` (GGUF lists it reversed)
    offset_bytes   from the start of the file
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    path: Path
    offset_bytes: int

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self.n_elements // self.type.block_elements * self.type.block_bytes

    @property
    def file_range(self) -> tuple[int, int]:
        """Where its bytes begin and end in the file."""
        return self.offset_bytes, self.offset_bytes + self.size_bytes


Octets: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DerivedTensor:
    """A tensor that a file holds in another form: transposed, interleaved with others, or off by a constant.

    make   from the bytes of ``base`` to those of this tensor, ``shape`` of ``type``
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    base: TensorInfo
    make: Callable[[Octets], npt.NDArray[Any]]

    @property
    def path(self) -> Path:
        """The file of ``base``."""
        return self.base.path

    @property
    def file_range(self) -> tuple[int, int]:
        """Where the bytes of ``base`` begin and end in the file."""
        return self.base.file_range

    @property
    def size_bytes(self) -> int:
        """Bytes once made."""
        return prod(self.shape) // self.type.block_elements * self.type.block_bytes


TensorSource: TypeAlias = TensorInfo | DerivedTensor


def rows_of(tensor: TensorInfo, begin: int, end: int, shape: tuple[int, ...] | None = None) -> TensorInfo:
    """Entries ``begin`` to ``end`` of the slowest dimension: one expert of many, one part of a fused matrix.

    shape   of the result, where it is not that of the slice
    """
    row_bytes = tensor.size_bytes // tensor.shape[0]
    sliced = shape if shape is not None else (end - begin, *tensor.shape[1:])
    return TensorInfo(tensor.name, tensor.type, sliced, tensor.path, tensor.offset_bytes + begin * row_bytes)
