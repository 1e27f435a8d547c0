"""How much memory a model takes beside its KV cache (kv_cache.py): an upper estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from madang.formats.tensors import TensorSource, TensorType

# How much weights of common types may grow when they are padded to whole tiles, where only a file's size is known.
REPACKED_FACTOR = 1.15
ROW_GROUP = 16  # rows are padded to it
PLANE_BYTES = 64  # each of at most five planes of a row group is padded to it
# Bits per weight in memory of the types that take more there than in files. They follow from form_of (csrc/layout.h),
# and tests/hardware/test_memory.py compares them with the core.
_PACKED_BITS = {
    TensorType.Q3_K: 3.5625,
    TensorType.Q4_K: 4.625,
    TensorType.Q5_K: 5.625,
    TensorType.TQ1_0: 2.0625,
    TensorType.IQ4_XS: 4.3125,
    TensorType.IQ3_XXS: 4.3125,
    TensorType.IQ3_S: 4.3125,
    TensorType.IQ2_XXS: 3.3125,
    TensorType.IQ2_XS: 3.5625,
    TensorType.IQ2_S: 3.5625,
    TensorType.IQ1_S: 3.3125,
    TensorType.IQ1_M: 3.5625,
}
# Interpreter, vocabulary, logits and activations of one prompt chunk.
WORKING_BYTES = 150_000_000


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of a loaded model. The cache grows page by page; a full context takes up to ``kv_cache_bytes``."""

    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int = WORKING_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache_bytes + self.working_bytes


def packed_bits(tensor_type: TensorType) -> float:
    """Bits per weight of a loaded matrix, scales included."""
    return _PACKED_BITS.get(tensor_type, tensor_type.bits_per_element)


def packed_weights_bytes(tensors: Iterable[TensorSource]) -> int:
    """Resident bytes of these tensors once loaded; above the exact figure by at most 320 per 16 rows."""
    return sum(packed_tensor_bytes(tensor) for tensor in tensors)


def packed_tensor_bytes(tensor: TensorSource) -> int:
    """The same of one tensor."""
    if len(tensor.shape) < 2:
        return 4 * prod(tensor.shape)  # norms and biases are float32
    n_groups = -(-prod(tensor.shape[:-1]) // ROW_GROUP)
    group_bytes = ROW_GROUP * tensor.shape[-1] * packed_bits(tensor.type) / 8
    return n_groups * (round(group_bytes) + 5 * PLANE_BYTES)


def estimate_weights_bytes(file_bytes: int) -> int:
    """Estimate of the resident weights of a file of so many bytes; exact with :func:`packed_weights_bytes`."""
    return round(file_bytes * REPACKED_FACTOR)


def largest_model_bytes(available_bytes: int | None) -> int | None:
    """The largest file whose weights fit beside what every engine needs; None when free memory is unknown."""
    if available_bytes is None:
        return None
    room_bytes = max(available_bytes - MemoryEstimate(0, 0).total_bytes, 0)
    return room_bytes * 10**9 // estimate_weights_bytes(10**9)
