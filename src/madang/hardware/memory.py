"""How much memory a model takes: exact for the KV cache, an upper estimate for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from madang.formats.spec import DecoderSpec
from madang.formats.tensors import TensorSource, TensorType

# How the cache can keep keys and values: as float16, or as int8 with float32 scales (docs/decisions/0011).
KV_TYPES = ("f16", "int8")
KV_PAGE_TOKENS = 16
KV_KEY_GROUP = 32  # elements of an int8 key that share a scale; a value has one
KV_VALUE_MULTIPLE = 16  # elements of a vector; csrc/cache.cpp pads each value to it
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
    """Bytes of a loaded model. The cache grows page by page and reaches ``kv_cache_bytes`` at the full context."""

    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int = WORKING_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache_bytes + self.working_bytes


def kv_cache_bytes(
    spec: DecoderSpec,
    tokens: int,
    *,
    kv_type: str = KV_TYPES[0],
    page_tokens: int = KV_PAGE_TOKENS,
    drop_beyond_window: bool = False,
) -> int:
    """Exact bytes of the keys and values of ``tokens`` positions of one sequence, in whole pages.

    n_kv_heads · (head_dim for the key + head_dim padded to whole vectors for the value) elements a position and
    layer; with "int8", keys are padded to whole groups and there are scales. With ``drop_beyond_window``, layers with
    a sliding window keep only the pages that it can touch.
    """
    value_dim = _multiples(spec.head_dim, KV_VALUE_MULTIPLE) * KV_VALUE_MULTIPLE
    n_groups = _multiples(spec.head_dim, KV_KEY_GROUP)
    int8_bytes = (KV_KEY_GROUP + 4) * n_groups + value_dim + 4
    head_bytes = int8_bytes if kv_type == "int8" else 2 * (spec.head_dim + value_dim)
    page_bytes = head_bytes * spec.n_kv_heads * page_tokens
    n_pages = _multiples(tokens, page_tokens)
    if not drop_beyond_window:
        return spec.n_layers * n_pages * page_bytes
    kept = (min(n_pages, _multiples(window, page_tokens) + 1) if window else n_pages for window in spec.window_tokens)
    return sum(kept) * page_bytes


def packed_bits(tensor_type: TensorType) -> float:
    """Bits per weight of a loaded matrix, scales included."""
    return _PACKED_BITS.get(tensor_type, tensor_type.bits_per_element)


def packed_weights_bytes(tensors: Iterable[TensorSource]) -> int:
    """Resident bytes of these tensors once loaded; above the exact figure by at most 320 per 16 rows."""
    return sum(_packed_tensor_bytes(tensor) for tensor in tensors)


def _packed_tensor_bytes(tensor: TensorSource) -> int:
    if len(tensor.shape) < 2:
        return 4 * prod(tensor.shape)  # norms and biases are float32
    n_groups = -(-prod(tensor.shape[:-1]) // ROW_GROUP)
    group_bytes = ROW_GROUP * tensor.shape[-1] * packed_bits(tensor.type) / 8
    return n_groups * (round(group_bytes) + 5 * PLANE_BYTES)


def estimate_weights_bytes(file_bytes: int) -> int:
    """Estimate of the resident weights of a file of so many bytes; exact with :func:`packed_weights_bytes`."""
    return round(file_bytes * REPACKED_FACTOR)


def fitting_tokens(spec: DecoderSpec, room_bytes: int, kv_type: str = KV_TYPES[0]) -> int:
    """The longest context, in whole pages, whose cache takes at most ``room_bytes``."""
    return max(room_bytes, 0) // kv_cache_bytes(spec, KV_PAGE_TOKENS, kv_type=kv_type) * KV_PAGE_TOKENS


def _multiples(n: int, size: int) -> int:
    return -(-n // size)
