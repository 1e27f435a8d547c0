"""Bytes of a file, and of what is loaded from it."""

from __future__ import annotations

from pathlib import Path

from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorInfo, TensorType
from madang.hardware import packed_weights_bytes
from madang.quantization.counting import file_bytes, in_memory, loaded_bytes
from madang.quantization.matrices import Part, QuantizableMatrix, quantizable_matrices


def matrix(n_rows: int, n_columns: int, *parts: Part) -> QuantizableMatrix:
    return QuantizableMatrix(TensorInfo("blk.0.qkv", TensorType.F16, (n_rows, n_columns), Path(), 0), parts)


def test_types_that_are_widened_for_the_kernels_take_more_when_they_are_loaded() -> None:
    whole = matrix(512, 256, Part("0.query", 0, 512))
    assert loaded_bytes(whole, TensorType.Q4_K) == 512 * 256 * 4.625 / 8
    assert file_bytes(whole, TensorType.Q4_K) == 512 * 256 * 4.5 / 8
    assert loaded_bytes(whole, TensorType.Q8_0) == file_bytes(whole, TensorType.Q8_0)


def test_each_part_is_padded_on_its_own() -> None:
    one, two = matrix(40, 32, Part("a", 0, 40)), matrix(40, 32, Part("a", 0, 20), Part("b", 20, 40))
    sixteen = loaded_bytes(matrix(16, 32, Part("a", 0, 16)), TensorType.Q8_0)  # the rows of a group
    assert loaded_bytes(one, TensorType.Q8_0) == 3 * sixteen
    assert loaded_bytes(two, TensorType.Q8_0) == 4 * sixteen
    assert file_bytes(matrix(3, 32), TensorType.Q8_0) == 128  # 102, aligned


def test_all_weights_of_a_model_count_once(tiny_gguf: Path) -> None:
    file = read_gguf(tiny_gguf)
    description = describe_gguf(file)
    matrices = quantizable_matrices(file, description)
    counted = in_memory(description, matrices)
    same = {own.name: own.tensor.type for own in matrices}
    assert counted.total_bytes(matrices, same) == packed_weights_bytes(description.tensors.values())
    assert 0 < counted.fixed_bytes < counted.total_bytes(matrices, same)
