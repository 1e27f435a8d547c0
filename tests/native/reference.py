"""A transformer written for reading: numpy in float64, one sequence at a time, no cache, every field of DecoderSpec.

Shapes: n tokens, d model width, h heads, k key-value heads, e elements of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from madang.formats.spec import Activation, DecoderSpec, RopeSpec

Array = npt.NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
}


@dataclass(frozen=True)
class Adapter:
    """Low-rank factors by tensor name: A [rank, columns], B [rows, rank]."""

    factors: Mapping[str, tuple[Array, Array]]
    scale: float


@dataclass
class Run:
    """What one pass over a text gives; ``logits`` of a model without an output matrix are those of a tied one."""

    hidden: list[Array] = field(default_factory=list)  # what each layer reads, and what the last leaves: [n, d]
    attention: list[Array] = field(default_factory=list)  # per layer: [h, n, n]
    final: Array = field(default_factory=lambda: np.empty(0))
    logits: Array = field(default_factory=lambda: np.empty(0))


def softmax(x: Array) -> Array:
    """Along the last axis."""
    weights: Array = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def soft_cap(x: Array, cap: float | None) -> Array:
    """``cap * tanh(x / cap)``, or x."""
    return x if cap is None else cap * np.tanh(x / cap)


def rotated(x: Array, rope: RopeSpec) -> Array:
    """Rotary embedding of [n, heads, e]."""
    pairs = len(rope.inverse_frequencies)
    angles = np.arange(len(x))[:, None] * np.array(rope.inverse_frequencies, np.float32).astype(np.float64)
    cosines, sines = (rope.magnitude * part(angles)[:, None] for part in (np.cos, np.sin))
    first = slice(0, 2 * pairs, 2) if rope.layout == "interleaved" else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if rope.layout == "interleaved" else slice(pairs, 2 * pairs)
    result = x.copy()
    result[..., first] = x[..., first] * cosines - x[..., second] * sines
    result[..., second] = x[..., first] * sines + x[..., second] * cosines
    return result


class Reference:
    """A model of these tensors, by canonical name; ``kv_type`` is what keys and values are rounded to."""

    def __init__(self, spec: DecoderSpec, tensors: Mapping[str, Array], kv_type: str = "f16") -> None:
        self.spec = spec
        self._kv_type = kv_type
        self.tensors = tensors
        self._adapter: Adapter | None = None

    def run(self, tokens: Sequence[int], *, long_rope: bool = False, adapter: Adapter | None = None) -> Run:
        """Read a text."""
        self._adapter = adapter
        run = Run()
        x = self._embed(tokens)
        for layer in range(self.spec.n_layers):
            run.hidden.append(x)
            x = self._layer(x, layer, long_rope, run)
        run.hidden.append(x)
        run.final = self._norm("output_norm", x)
        output = "output" if "output" in self.tensors else "token_embedding"
        run.logits = self._linear("output", run.final, matrix=self.tensors[output]) * self.spec.logit_scale
        run.logits = soft_cap(run.logits, self.spec.logit_softcap)
        return run

    def _embed(self, tokens: Sequence[int]) -> Array:
        x = self.tensors["token_embedding"][list(tokens)] * self.spec.embedding_scale
        if "type_embedding" in self.tensors:
            x = x + self.tensors["type_embedding"]
        if "position_embedding" in self.tensors:
            x = x + self.tensors["position_embedding"][: len(tokens)]
        return self._norm("embedding_norm", x)

    def _layer(self, x: Array, layer: int, long_rope: bool, run: Run) -> Array:
        attention_in = self._norm(f"{layer}.attention_norm", x)
        attention = self._attention(attention_in, layer, long_rope, run)
        if self.spec.parallel:
            own = f"{layer}.ffn_norm" in self.tensors
            ffn = self._ffn(self._norm(f"{layer}.ffn_norm", x) if own else attention_in, layer)
            return x + self.spec.residual_scale * (attention + ffn)
        x = self._joined(x, attention, f"{layer}.attention_post_norm")
        return self._joined(x, self._ffn(self._norm(f"{layer}.ffn_norm", x), layer), f"{layer}.ffn_post_norm")

    def _joined(self, x: Array, branch: Array, post_norm: str) -> Array:
        if self.spec.norms_sum:
            return self._norm(post_norm, x + self.spec.residual_scale * branch)
        return x + self.spec.residual_scale * self._norm(post_norm, branch)

    def _attention(self, x: Array, layer: int, long_rope: bool, run: Run) -> Array:
        spec, n = self.spec, len(x)
        queries, keys, values = (
            self._linear(f"{layer}.{name}", x).reshape(n, -1, spec.head_dim) for name in ("query", "key", "value")
        )
        queries = self._norm(f"{layer}.query_norm", queries)
        keys = self._norm(f"{layer}.key_norm", keys)
        rope = spec.ropes[layer]
        if rope is not None:
            rope = spec.long_rope.rope if long_rope and spec.long_rope is not None else rope
            queries, keys = rotated(queries, rope), rotated(keys, rope)
        group = spec.n_heads // spec.n_kv_heads
        keys, values = self._kept(keys, 32), self._kept(values, spec.head_dim)
        keys, values = (np.repeat(part, group, 1) for part in (keys, values))
        scale = spec.head_dim**-0.5 if spec.attention_scale is None else spec.attention_scale
        scores = soft_cap(np.einsum("nhe,mhe->hnm", queries, keys) * scale, spec.attention_softcap)
        weights = softmax(np.where(self._visible(n, spec.window_tokens[layer]), scores, -np.inf))
        run.attention.append(weights)
        attended = np.einsum("hnm,mhe->nhe", weights, values).reshape(n, -1)
        return self._linear(f"{layer}.attention_output", attended)

    def _kept(self, x: Array, group: int) -> Array:
        """What the cache has of [n, heads, e]; int8 has a scale for each ``group`` of elements."""
        if self._kv_type == "f64":
            return x
        if self._kv_type == "f16":
            return x.astype(np.float16).astype(np.float64)
        parts = []
        for begin in range(0, x.shape[-1], group):
            part = x[..., begin : begin + group]
            scale = np.maximum(np.abs(part).max(-1, keepdims=True) / 127, 1e-30)
            parts.append(np.round(part / scale) * scale)
        return np.concatenate(parts, -1)

    def _visible(self, n: int, window: int) -> npt.NDArray[np.bool_]:
        back = np.arange(n)[:, None] - np.arange(n)
        near = np.abs(back) < (window or n)
        return near & (back >= 0) if self.spec.causal else near

    def _ffn(self, x: Array, layer: int) -> Array:
        experts = self.spec.experts
        if experts is None:
            return self._expert(x, f"{layer}")
        weights = softmax(self._linear(f"{layer}.router", x))
        used = np.argsort(-weights, axis=-1, kind="stable")[:, : experts.n_used]
        mask = np.zeros_like(weights)
        np.put_along_axis(mask, used, 1, -1)
        weights = weights * mask
        if experts.normalized:
            weights = weights / weights.sum(-1, keepdims=True)
        outputs = [self._expert(x, f"{layer}.expert.{e}") for e in range(experts.n_experts)]
        mixed: Array = np.einsum("ne,end->nd", weights, np.stack(outputs))
        return mixed

    def _expert(self, x: Array, prefix: str) -> Array:
        activate = ACTIVATIONS[self.spec.activation]
        up = self._linear(f"{prefix}.ffn_up", x)
        inner = activate(self._linear(f"{prefix}.ffn_gate", x)) * up if self.spec.gated else activate(up)
        return self._linear(f"{prefix}.ffn_down", inner)

    def _linear(self, name: str, x: Array, *, matrix: Array | None = None) -> Array:
        y = x @ (self.tensors[name] if matrix is None else matrix).T
        if f"{name}.bias" in self.tensors:
            y = y + self.tensors[f"{name}.bias"]
        if self._adapter is not None and name in self._adapter.factors:
            a, b = self._adapter.factors[name]
            y = y + self._adapter.scale * (x @ a.T @ b.T)
        return y

    def _norm(self, name: str, x: Array) -> Array:
        """RMSNorm or LayerNorm along the last axis; nothing where there is no such tensor."""
        if name not in self.tensors:
            return x
        if self.spec.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.spec.norm_epsilon) * self.tensors[name]
        return y + self.tensors.get(f"{name}.bias", 0.0)
