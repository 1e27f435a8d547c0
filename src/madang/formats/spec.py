"""The canonical model: what every architecture is translated into before an engine sees it.

A family module (``formats/families/<family>.py``) maps the metadata and tensor names of one architecture to a
:class:`DecoderSpec` and to the canonical tensor names below; nothing above this room knows an architecture by name.

Canonical tensor names (``N`` is the layer, ``E`` the expert); which of the optional ones are there says how a layer is
built, and every name may be joined by a bias, ``<name>.bias``:

    token_embedding  position_embedding?  type_embedding? (one row; of models that read pairs, one per token type)
    embedding_norm?
    output_norm?  output (absent when tied)  rank_dense?  rank_output? (of models that compare texts, see below)
    N.attention_norm?  N.query  N.key  N.value  N.query_norm?  N.key_norm?  N.attention_output  N.attention_post_norm?
    N.ffn_norm?  N.ffn_gate?  N.ffn_up  N.ffn_down  N.ffn_post_norm?
    N.router  N.expert.E.ffn_gate?  N.expert.E.ffn_up  N.expert.E.ffn_down          in place of N.ffn_*

``query_norm`` and ``key_norm`` are one vector of head_dim for all heads, or a row for each head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from madang.formats.rope import RopeSettings
from madang.formats.tensors import TensorSource

Norm = Literal["rms", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Pooling = Literal["mean", "cls", "last"]


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
class LongRope:
    """LongRoPE's second set of frequencies (arXiv:2402.13753): sequences of more than ``from_tokens`` use ``rope``."""

    from_tokens: int
    rope: RopeSpec


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts (arXiv:2401.04088): each token takes the ``n_used`` experts that its router rates highest.

    Weights are the softmax over all experts; ``normalized`` makes those of the chosen ones add up to 1.
    """

    n_experts: int
    n_used: int
    normalized: bool = True


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """How the final hidden states of a text become its vector."""

    pooling: Pooling
    normalized: bool = True


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A transformer; an encoder is one that is not causal and has no output matrix.

    n_heads, n_kv_heads   query heads, and the key/value heads that groups of them share (arXiv:2305.13245)
    ropes                 per layer: how queries and keys are rotated; None where they are not
    window_tokens         per layer: how many positions back attention looks, itself included; 0 is unlimited
    context_tokens        the length it was trained for
    norm                  "rms" (arXiv:1910.07467) or "layer" (arXiv:1607.06450)
    norms_sum             the post norms take the sum with the residual stream (BERT), not the branch alone (Gemma 2)
    parallel              attention and feed-forward both read the layer's input (GPT-J); without an ffn_norm they
                          share the attention_norm
    gated                 feed-forward is down(activation(gate) * up), else down(activation(up))
    attention_scale       factor of query . key; None is 1 / sqrt(head_dim)
    *_softcap             cap * tanh(x / cap) on attention scores, on logits (arXiv:2408.00118); None is off
    *_scale               factors of the embeddings, of what each branch adds, of the logits
    rope_settings         how the files say what ``ropes`` are, for writing them again; nothing is computed from it
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
    ropes: tuple[RopeSpec | None, ...]
    window_tokens: tuple[int, ...]
    long_rope: LongRope | None = None
    norm: Norm = "rms"
    norms_sum: bool = False
    parallel: bool = False
    gated: bool = True
    activation: Activation = "silu"
    experts: Experts | None = None
    causal: bool = True
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    rope_settings: RopeSettings | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's files, understood: its shape and its tensors by canonical name; ``embedding`` if it makes vectors.

    A cross-encoder (arXiv:1901.04085) reads a query and a document as one text. Its score is
    ``rank_output . tanh(rank_dense . state)`` of the final state of the first token, without the tanh where there is no
    ``rank_dense``.
    """

    spec: DecoderSpec
    tensors: Mapping[str, TensorSource]
    embedding: EmbeddingSpec | None = field(default=None)

    @property
    def ranks_pairs(self) -> bool:
        """Whether it says how well a document fits a query."""
        return "rank_output" in self.tensors
