"""What models of usual sizes take in usual precisions: exact bytes of named shapes, as the native engine packs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from madang.formats.spec import DecoderSpec
from madang.formats.tensors import TensorInfo, TensorType
from madang.hardware.kv_cache import KV_TYPES, kv_cache_bytes
from madang.hardware.memory import packed_weights_bytes, working_bytes
from madang.hardware.plan import PREFILL_CHUNK_TOKENS

# What people call it -> the type that all matrices have.
PRECISIONS: Final = {
    "FP32": TensorType.F32,
    "FP16": TensorType.F16,
    "INT8": TensorType.Q8_0,
    "6-bit": TensorType.Q6_K,
    "5-bit": TensorType.Q5_K,
    "4-bit": TensorType.Q4_K,
    "3-bit": TensorType.Q3_K,
    "2-bit": TensorType.Q2_K,
}


@dataclass(frozen=True, slots=True)
class SeedShape:
    """A model that many know, by the numbers of its published configuration."""

    size: str
    name: str
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    vocab_size: int
    is_tied: bool
    context_tokens: int

    @property
    def spec(self) -> DecoderSpec:
        """As far as memory depends on it."""
        return DecoderSpec(
            architecture="llama",
            n_layers=self.n_layers,
            n_embd=self.n_embd,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            n_ff=self.n_ff,
            vocab_size=self.vocab_size,
            context_tokens=self.context_tokens,
            norm_epsilon=1e-5,
            ropes=(None,) * self.n_layers,
            window_tokens=(0,) * self.n_layers,
        )

    def tensors(self, kind: TensorType) -> list[TensorInfo]:
        """All of it, matrices of one type and norms of float32."""
        heads, kv_heads = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        layer = [
            *((heads, self.n_embd), (kv_heads, self.n_embd), (kv_heads, self.n_embd), (self.n_embd, heads)),
            *((self.n_ff, self.n_embd), (self.n_ff, self.n_embd), (self.n_embd, self.n_ff)),
        ]
        matrices = [(self.vocab_size, self.n_embd)] * (1 if self.is_tied else 2) + layer * self.n_layers
        norms = [(self.n_embd,)] * (2 * self.n_layers + 1)
        return [_tensor(kind, shape) for shape in matrices] + [_tensor(TensorType.F32, shape) for shape in norms]


SHAPES: Final = (
    SeedShape("1B", "Llama 3.2 1B", 16, 2048, 32, 8, 64, 8192, 128_256, True, 131_072),
    SeedShape("3B", "Llama 3.2 3B", 28, 3072, 24, 8, 128, 8192, 128_256, True, 131_072),
    SeedShape("7B", "Llama 2 7B", 32, 4096, 32, 32, 128, 11_008, 32_000, False, 4096),
    SeedShape("13B", "Llama 2 13B", 40, 5120, 40, 40, 128, 13_824, 32_000, False, 4096),
)


@dataclass(frozen=True, slots=True)
class SeedRow:
    """One model in one precision."""

    size: str
    model: str
    precision: str
    type: str
    parameters: int
    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache_bytes + self.working_bytes


def seed_table(context_tokens: int, *, kv_type: str = KV_TYPES[0]) -> Iterator[SeedRow]:
    """Every shape in every precision, with the cache of one conversation of so many tokens."""
    for shape in SHAPES:
        spec = shape.spec
        n_tokens = min(context_tokens, shape.context_tokens)
        for precision, kind in PRECISIONS.items():
            tensors = shape.tensors(kind)
            yield SeedRow(
                size=shape.size,
                model=shape.name,
                precision=precision,
                type=kind.name,
                parameters=sum(tensor.n_elements for tensor in tensors),
                weights_bytes=packed_weights_bytes(tensors),
                kv_cache_bytes=kv_cache_bytes(spec, n_tokens, kv_type=kv_type),
                working_bytes=working_bytes(spec, min(n_tokens, PREFILL_CHUNK_TOKENS)),
            )


def _tensor(kind: TensorType, shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo("", kind, shape, Path(), 0)
