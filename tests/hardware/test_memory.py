"""What the plan expects weights to take is what the core takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.formats.tensors import TensorInfo, TensorType
from madang.hardware import packed_weights_bytes
from madang.hardware.memory import packed_bits

core = pytest.importorskip("madang._core")

TYPES = [TensorType(type_id) for type_id, _ in core.tensor_types()]
each_type = pytest.mark.parametrize("tensor_type", TYPES, ids=lambda tensor_type: tensor_type.name)


def matrix(tensor_type: TensorType, *shape: int) -> TensorInfo:
    return TensorInfo("weight", tensor_type, shape, Path("model.gguf"), 0)


@each_type
def test_bits_per_weight_are_the_cores(tensor_type: TensorType) -> None:
    rows, columns = 16, 1 << 14  # whole groups; no plane is padded
    assert core.packed_bytes(int(tensor_type), rows, columns) * 8 == packed_bits(tensor_type) * rows * columns


@each_type
@pytest.mark.parametrize(("rows", "n_blocks"), [(1, 1), (16, 3), (300, 8), (33, 500)])
def test_matrices_of_any_size_are_covered(tensor_type: TensorType, rows: int, n_blocks: int) -> None:
    columns = n_blocks * tensor_type.block_elements
    exact = core.packed_bytes(int(tensor_type), rows, columns)
    assert packed_weights_bytes([matrix(tensor_type, rows, columns)]) == exact


def test_a_vector_becomes_float32_in_whole_blocks() -> None:
    assert packed_weights_bytes([matrix(TensorType.F16, 10), matrix(TensorType.F32, 33)]) == 4 * (32 + 64)
