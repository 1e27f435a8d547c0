"""How fast a model will be: a sum of what each part of a step takes, at the rates of a machine's profile.

A token that is generated reads every matrix once, and the keys and values of all it sees, which it multiplies with all
heads of its query; a chunk of a prompt multiplies each weight with each token. Nothing here needs a file: a catalog
knows types, bytes and dimensions as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, prod

from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.tensors import TensorSource, TensorType
from madang.hardware.kv_cache import KV_TYPES, kv_position_bytes
from madang.hardware.memory import packed_tensor_bytes
from madang.hardware.profile import MachineProfile

DEFAULT_CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Matrices:
    """What one token's products need of all matrices of one type: their packed bytes, and how many weights."""

    n_bytes: float
    n_weights: float

    def __add__(self, other: Matrices) -> Matrices:
        return Matrices(self.n_bytes + other.n_bytes, self.n_weights + other.n_weights)


@dataclass(frozen=True, slots=True)
class Work:
    """What a model computes for each token.

    layers    matrices of all layers by type: of a mixture, as many experts as a token takes
    output    the matrix of the logits, which a chunk of a prompt needs once
    """

    spec: DecoderSpec
    layers: Mapping[TensorType, Matrices]
    output: Mapping[TensorType, Matrices] = field(default_factory=dict)


def work_of(description: ModelDescription) -> Work:
    """Of a model whose header was read."""
    spec = description.spec
    layers: dict[TensorType, Matrices] = {}
    for name, tensor in description.tensors.items():
        if len(tensor.shape) > 1 and name[0].isdigit():
            part = _matrices(tensor, _share_used(name, spec))
            layers[tensor.type] = layers[tensor.type] + part if tensor.type in layers else part
    output = description.tensors.get("output", description.tensors.get("token_embedding"))
    return Work(spec, layers, {output.type: _matrices(output)} if output is not None and spec.causal else {})


def _matrices(tensor: TensorSource, share: float = 1.0) -> Matrices:
    return Matrices(packed_tensor_bytes(tensor) * share, prod(tensor.shape) * share)


def _share_used(name: str, spec: DecoderSpec) -> float:
    if spec.experts is None or ".expert." not in name:
        return 1.0
    return spec.experts.n_used / spec.experts.n_experts


@dataclass(frozen=True, slots=True)
class Seen:
    """What one token sees of those before it, in all layers.

    kv_bytes   of their keys and values
    pairs      elements of its query times positions
    """

    kv_bytes: float = 0.0
    pairs: float = 0.0


_NOTHING = Seen()


def predict_decode(
    profile: MachineProfile,
    weights_bytes: Mapping[TensorType, float],
    *,
    n_layers: int,
    elements: float = 0.0,
    seen: Seen = _NOTHING,
    kv_type: str = KV_TYPES[0],
    threads: int | None = None,
) -> float:
    """Tokens per second of one conversation.

    weights_bytes   per type: packed bytes that a token reads, the output matrix included
    elements        of the activations of all layers: one thread takes them while the others wait
    seen            nothing at the beginning of a text
    """
    step_bytes = sum(weights_bytes.values()) + seen.kv_bytes
    read_s = sum(n_bytes / profile.decode_rate(kind, step_bytes) for kind, n_bytes in weights_bytes.items())
    cache = profile.caches[kv_type]
    seen_s = seen.kv_bytes / cache.decode_bytes_per_s + seen.pairs / cache.decode_pairs_per_s
    factor, _ = profile.thread_factors(profile.threads if threads is None else threads)
    rows_s = elements * profile.threads / profile.row_elements_per_s
    return 1 / ((read_s + seen_s) / factor + rows_s + profile.step_s + n_layers * profile.layer_s)


def forecast_decode(
    profile: MachineProfile, work: Work, depth_tokens: int, *, kv_type: str = KV_TYPES[0], threads: int | None = None
) -> float:
    """Tokens per second after ``depth_tokens`` of context."""
    spec = work.spec
    weights_bytes = {kind: matrices.n_bytes for kind, matrices in work.layers.items()}
    for kind, matrices in work.output.items():
        weights_bytes[kind] = weights_bytes.get(kind, 0.0) + matrices.n_bytes
    n_seen = sum(min(depth_tokens, window or depth_tokens) for window in spec.window_tokens)
    return predict_decode(
        profile,
        weights_bytes,
        n_layers=spec.n_layers,
        elements=spec.n_layers * row_elements(spec),
        seen=Seen(kv_position_bytes(spec, kv_type) * n_seen, spec.n_heads * spec.head_dim * n_seen),
        kv_type=kv_type,
        threads=threads,
    )


def forecast_prompt(
    profile: MachineProfile,
    work: Work,
    prompt_tokens: int,
    *,
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    kv_type: str = KV_TYPES[0],
    threads: int | None = None,
) -> float:
    """Tokens per second of reading a prompt of so many tokens, from an empty cache, in chunks."""
    spec = work.spec
    token_s = sum(m.n_weights / profile.type_speed(kind).multiplies_per_s for kind, m in work.layers.items())
    token_s += spec.n_layers * row_elements(spec) / profile.row_elements_per_s
    pairs = spec.n_heads * spec.head_dim * sum(_pairs(window, prompt_tokens) for window in spec.window_tokens)
    n_chunks = -(-prompt_tokens // chunk_tokens)
    chunk_s = sum(m.n_bytes / profile.decode_rate(kind, inf) for kind, m in work.output.items())
    _, factor = profile.thread_factors(profile.threads if threads is None else threads)
    total_s = prompt_tokens * token_s + pairs / profile.caches[kv_type].prompt_pairs_per_s + n_chunks * chunk_s
    return prompt_tokens / (total_s / factor + n_chunks * profile.step_s)


def row_elements(spec: DecoderSpec) -> int:
    """Elements of activations that one token has in one layer: normalized, rotated, activated or encoded."""
    n_slots = 1 if spec.experts is None else spec.experts.n_used
    attention = 2 * (spec.n_heads + spec.n_kv_heads) * spec.head_dim
    return 2 * spec.n_embd + attention + 2 * spec.n_ff * n_slots


def _pairs(window: int, n_tokens: int) -> float:
    """Positions that all tokens of a prompt see together, in a layer with this window."""
    if window == 0 or window >= n_tokens:
        return n_tokens * (n_tokens + 1) / 2
    return window * (window + 1) / 2 + (n_tokens - window) * window
