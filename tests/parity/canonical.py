"""The canonical model, computed with NumPy in float64 straight from its definition in ``formats/spec.py``.

Slow and short: it says whether a family read its files right, before any kernel has run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec
from madang.formats.tensors import DerivedTensor, TensorSource, TensorType

Floats = npt.NDArray[np.float64]
_DTYPES = {TensorType.F32: "<f4", TensorType.F16: "<f2", TensorType.F64: "<f8"}


def tensor_values(tensor: TensorSource) -> Floats:
    """A tensor of floats as its file has it, in its canonical form."""
    begin, end = tensor.file_range
    data = np.fromfile(tensor.path, np.uint8, end - begin, offset=begin)
    if isinstance(tensor, DerivedTensor):
        data = np.ascontiguousarray(tensor.make(data)).view(np.uint8).reshape(-1)
    assert len(data) == tensor.size_bytes
    if tensor.type == TensorType.BF16:
        values: npt.NDArray[Any] = (data.view("<u2").astype("<u4") << 16).view("<f4")
    else:
        values = data.view(_DTYPES[tensor.type])
    return values.reshape(tensor.shape).astype(np.float64)


class Canonical:
    """A described model with its weights in memory."""

    def __init__(self, description: ModelDescription) -> None:
        self.spec = description.spec
        self.weights = {name: tensor_values(tensor) for name, tensor in description.tensors.items()}

    def logits(self, tokens: Sequence[int]) -> Floats:
        """[tokens, words]"""
        spec, weights = self.spec, self.weights
        logits = self._linear(self.hidden(tokens), "output" if "output" in weights else "token_embedding")
        if "output.bias" in weights and "output" not in weights:
            logits = logits + weights["output.bias"]
        return _capped(logits * spec.logit_scale, spec.logit_softcap)

    def hidden(self, tokens: Sequence[int]) -> Floats:
        """[tokens, n_embd], after the last norm."""
        spec, weights = self.spec, self.weights
        x = weights["token_embedding"][list(tokens)] * spec.embedding_scale
        if "position_embedding" in weights:
            x = x + weights["position_embedding"][: len(tokens)]
        if "type_embedding" in weights:
            x = x + weights["type_embedding"].reshape(-1)
        x = self._norm(x, "embedding_norm")
        for layer in range(spec.n_layers):
            x = self._layer(x, layer)
        return self._norm(x, "output_norm")

    def _layer(self, x: Floats, layer: int) -> Floats:
        scale, prefix = self.spec.residual_scale, f"{layer}."
        read = self._norm(x, prefix + "attention_norm")
        attended = self._attention(read, layer)
        if self.spec.parallel:
            read = self._norm(x, prefix + "ffn_norm") if prefix + "ffn_norm" in self.weights else read
            return x + scale * (attended + self._feed_forward(read, prefix))
        x = self._joined(x, attended, prefix + "attention_post_norm")
        fed = self._feed_forward(self._norm(x, prefix + "ffn_norm"), prefix)
        return self._joined(x, fed, prefix + "ffn_post_norm")

    def _joined(self, x: Floats, branch: Floats, norm: str) -> Floats:
        if self.spec.norms_sum:
            return self._norm(x + self.spec.residual_scale * branch, norm)
        return x + self.spec.residual_scale * self._norm(branch, norm)

    def _attention(self, x: Floats, layer: int) -> Floats:
        spec, prefix, n = self.spec, f"{layer}.", len(x)
        query = self._linear(x, prefix + "query").reshape(n, spec.n_heads, -1)
        key = self._linear(x, prefix + "key").reshape(n, spec.n_kv_heads, -1)
        value = self._linear(x, prefix + "value").reshape(n, spec.n_kv_heads, -1)
        query, key = self._norm(query, prefix + "query_norm"), self._norm(key, prefix + "key_norm")
        rope = spec.ropes[layer]
        if rope is not None:
            if spec.long_rope is not None and n > spec.long_rope.from_tokens:
                rope = spec.long_rope.rope
            query, key = _rotated(query, rope), _rotated(key, rope)
        n_shared = spec.n_heads // spec.n_kv_heads
        key, value = np.repeat(key, n_shared, 1), np.repeat(value, n_shared, 1)
        scale = 1 / math.sqrt(spec.head_dim) if spec.attention_scale is None else spec.attention_scale
        scores = _capped(np.einsum("qhd,khd->hqk", query, key) * scale, spec.attention_softcap)
        distance = np.arange(n)[:, None] - np.arange(n)[None, :]
        window = spec.window_tokens[layer] or n
        seen = (distance < window) & (distance > -window)
        scores = np.where(seen & (distance >= 0) if spec.causal else seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self._linear(np.einsum("hqk,khd->qhd", weights, value).reshape(n, -1), prefix + "attention_output")

    def _feed_forward(self, x: Floats, prefix: str) -> Floats:
        experts = self.spec.experts
        if experts is None:
            return self._expert(x, prefix)
        scores = np.exp(self._linear(x, prefix + "router"))
        scores /= scores.sum(-1, keepdims=True)
        result = np.zeros_like(x)
        for token, row in enumerate(scores):
            chosen = np.argsort(-row)[: experts.n_used]
            total = row[chosen].sum() if experts.normalized else 1.0
            for number in chosen:
                fed = self._expert(x[token : token + 1], f"{prefix}expert.{number}.")[0]
                result[token] += row[number] / total * fed
        return result

    def _expert(self, x: Floats, prefix: str) -> Floats:
        act = _ACTIVATIONS[self.spec.activation]
        up = self._linear(x, prefix + "ffn_up")
        up = act(self._linear(x, prefix + "ffn_gate")) * up if self.spec.gated else act(up)
        return self._linear(up, prefix + "ffn_down")

    def _linear(self, x: Floats, name: str) -> Floats:
        product: Floats = x @ self.weights[name].T
        return product + self.weights.get(name + ".bias", 0.0)

    def _norm(self, x: Floats, name: str) -> Floats:
        if name not in self.weights:
            return x
        if self.spec.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        scaled: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.spec.norm_epsilon)
        return scaled * self.weights[name] + self.weights.get(name + ".bias", 0.0)


def _rotated(x: Floats, rope: RopeSpec) -> Floats:
    """[tokens, heads, head_dim]"""
    n_pairs = len(rope.inverse_frequencies)
    angles = np.arange(len(x))[:, None, None] * np.array(rope.inverse_frequencies)
    cos, sin = np.cos(angles) * rope.magnitude, np.sin(angles) * rope.magnitude
    result = x.copy()
    if rope.layout == "half":
        first, second = slice(0, n_pairs), slice(n_pairs, 2 * n_pairs)
    else:
        first, second = slice(0, 2 * n_pairs, 2), slice(1, 2 * n_pairs, 2)
    result[..., first] = x[..., first] * cos - x[..., second] * sin
    result[..., second] = x[..., second] * cos + x[..., first] * sin
    return result


def _capped(x: Floats, cap: float | None) -> Floats:
    return x if cap is None else cap * np.tanh(x / cap)


def _gelu(x: Floats) -> Floats:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


_ACTIVATIONS: Mapping[str, Any] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": _gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def pooled(hidden: Floats, spec: DecoderSpec, description: ModelDescription) -> Floats:
    """The vector of a text, as ``description.embedding`` says."""
    embedding = description.embedding
    assert embedding is not None
    vector: Floats = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[embedding.pooling]
    return vector / np.linalg.norm(vector) if embedding.normalized else vector
