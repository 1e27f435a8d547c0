"""The table of tensor types against the reference implementation's."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.formats.tensors import TensorInfo, TensorType


def test_table_equals_reference() -> None:
    gguf = pytest.importorskip("gguf")
    for tensor_type in TensorType:
        reference = gguf.GGMLQuantizationType(tensor_type)
        assert reference.name == tensor_type.name
        # ggml's block_q8_1 has two half-precision scales (36 bytes); the Python table kept the former single-precision
        # pair. The type never occurs in a file.
        expected = (32, 36) if tensor_type is TensorType.Q8_1 else gguf.GGML_QUANT_SIZES[reference]
        assert (tensor_type.block_elements, tensor_type.block_bytes) == expected, tensor_type.name


def test_sizes() -> None:
    info = TensorInfo("w", TensorType.Q4_K, (3, 512), Path("model.gguf"), 64)
    assert (info.n_elements, info.size_bytes) == (1536, 6 * 144)
    assert TensorType.Q4_K.bits_per_element == 4.5
    assert TensorInfo("scalar", TensorType.F16, (), Path("model.safetensors"), 8).size_bytes == 2
