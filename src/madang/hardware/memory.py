"""How much memory a model takes beside its KV cache (kv_cache.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final

from madang.formats.spec import DecoderSpec
from madang.formats.tensors import TensorSource, TensorType

# How much weights of common types may grow when they are padded to whole tiles, where only a file's size is known.
REPACKED_FACTOR = 1.15
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
# Resident with everything imported that runs a model; and what answering adds, buffers aside (templates, samplers, the
# prefix tree). Both on x86-64 Linux with CPython 3.11.
INTERPRETER_BYTES: Final = 46_000_000
ANSWERING_BYTES: Final = 5_000_000
TOKENIZER_BYTES: Final = 600  # a word of the vocabulary: its text, where it is looked up, and its merge
_SAMPLER_BYTES = 12  # a logit: the copy that is sorted, with its number
# Where a model's dimensions are not known: a small one with a vocabulary of 50,000 to 100,000 words.
WORKING_BYTES: Final = 150_000_000
_BLOCK = 32
_BLOCK_BYTES = 96  # csrc/kernels/kernels.h, QuantizedBlock: a block of 32 activations beside their float32
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of a loaded model. The cache grows page by page; a full context takes up to ``kv_cache_bytes``.

    working_bytes   interpreter, tokenizer, logits and the activations of a chunk
    """

    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int = WORKING_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache_bytes + self.working_bytes


def working_bytes(spec: DecoderSpec, chunk_tokens: int) -> int:
    """What a process takes beside weights and cache, once it has read a chunk of so many tokens and answered.

    The interpreter, the tokenizer, a row of logits and the activations of the chunk.
    """
    vocabulary_bytes = spec.vocab_size * (TOKENIZER_BYTES + _FLOAT_BYTES + _SAMPLER_BYTES)
    return INTERPRETER_BYTES + ANSWERING_BYTES + vocabulary_bytes + chunk_bytes(spec, chunk_tokens)


def chunk_bytes(spec: DecoderSpec, n_tokens: int) -> int:
    """Activations of so many tokens, as Decoder::resize (csrc/decoder.cpp) makes room for them."""
    n_slots = 1 if spec.experts is None else spec.experts.n_used
    heads, kv_heads = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    plain = [spec.n_embd, heads, kv_heads, kv_heads]  # the stream, queries, keys and values
    encoded = [spec.n_embd, spec.n_embd, heads, *[spec.n_ff] * n_slots]  # what products read
    if spec.gated:
        plain += [spec.n_ff] * n_slots
    if spec.experts is not None:
        plain += [spec.n_embd, spec.experts.n_experts, *[spec.n_embd] * n_slots]
        encoded += [spec.n_embd] * n_slots
    n_blocks = sum(-(-width // _BLOCK) for width in encoded)
    n_floats = _BLOCK * (sum(-(-width // _BLOCK) for width in plain) + n_blocks)
    return n_tokens * (_FLOAT_BYTES * n_floats + _BLOCK_BYTES * n_blocks)


def packed_bits(tensor_type: TensorType) -> float:
    """Bits per weight of a loaded matrix, scales included."""
    return _PACKED_BITS.get(tensor_type, tensor_type.bits_per_element)


def packed_weights_bytes(tensors: Iterable[TensorSource]) -> int:
    """Resident bytes of these tensors once loaded, exactly, where the native engine runs their types."""
    return sum(packed_tensor_bytes(tensor) for tensor in tensors)


def packed_tensor_bytes(tensor: TensorSource) -> int:
    """The same of one tensor."""
    from madang import _core

    columns, n_rows = tensor.shape[-1] if tensor.shape else 1, prod(tensor.shape[:-1])
    if len(tensor.shape) < 2:
        return _FLOAT_BYTES * -(-columns // _BLOCK) * _BLOCK  # norms and biases are float32
    try:
        return _core.packed_bytes(int(tensor.type), n_rows, columns)
    except ValueError:  # a type that only other engines run, or a matrix that none does
        return round(prod(tensor.shape) * packed_bits(tensor.type) / 8)


def estimate_weights_bytes(file_bytes: int) -> int:
    """Estimate of the resident weights of a file of so many bytes; exact with :func:`packed_weights_bytes`."""
    return round(file_bytes * REPACKED_FACTOR)


def largest_model_bytes(available_bytes: int | None) -> int | None:
    """The largest file whose weights fit beside what every engine needs; None when free memory is unknown."""
    if available_bytes is None:
        return None
    room_bytes = max(available_bytes - MemoryEstimate(0, 0).total_bytes, 0)
    return room_bytes * 10**9 // estimate_weights_bytes(10**9)
