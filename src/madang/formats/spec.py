"""The canonical model: what every architecture is translated into before an engine sees it.

A family module (``formats/families/<family>.py``) maps the metadata and tensor names of one architecture to a
:class:`DecoderSpec` and to the canonical tensor names below; nothing above this room knows an architecture by name.

Canonical tensor names (``N`` is the layer):
    token_embedding · output_norm · output (absent when tied)
    N.attention_norm · N.query · N.key · N.value · N.attention_output · N.ffn_norm · N.ffn_gate · N.ffn_up · N.ffn_down
    biases add ``.bias``: N.query.bias
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from madang.formats.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (arXiv:2104.09864), scaling already folded in.

    layout               which elements form a pair: (2i, 2i+1) "interleaved", or (i, i + n/2) "half"
    inverse_frequencies  radians per position of each pair; their number is half the rotated dimensions
    magnitude            factor on cosine and sine (YaRN's attention temperature); 1 when unused
    """

    layout: Literal["interleaved", "half"]
    inverse_frequencies: tuple[float, ...]
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A decoder-only transformer.

    n_heads, n_kv_heads   query heads, and the key/value heads that groups of them share (arXiv:2305.13245)
    window_tokens         per layer: how many positions back attention looks, itself included; 0 is unlimited
    context_tokens        the length it was trained for
    """

    architecture: str
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    vocab_size: int
    context_tokens: int
    norm_epsilon: float
    rope: RopeSpec
    window_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model file, understood: its shape, and its tensors by canonical name."""

    spec: DecoderSpec
    tensors: Mapping[str, TensorInfo]
