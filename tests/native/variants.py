"""Transformers of every build that DecoderSpec can describe, with random weights, for core and reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from madang import _core
from madang.formats.rope import base_frequencies
from madang.formats.spec import DecoderSpec, Experts, LongRope, RopeSpec
from madang.formats.tensors import TensorType
from madang.native.loader import decoder_shape
from tests.native.bare import set_array
from tests.native.reference import Adapter, Reference
from tests.parity.blocks import decode, encode
from tests.parity.running import PAGE_TOKENS

N_POSITIONS = 200  # that learned positions know
N_WORDS = 43


def rope(head_dim: int, base: float = 10_000.0, **changes: Any) -> RopeSpec:
    """Of all elements of a head, interleaved, unless changed."""
    frequencies = tuple(base_frequencies(base, head_dim).tolist())
    return RopeSpec(**{"layout": "interleaved", "inverse_frequencies": frequencies, **changes})


def llama(**changes: Any) -> DecoderSpec:
    """A small one, with changes. What has one entry per layer is repeated."""
    values = {
        "architecture": "test",
        "n_layers": 2,
        "n_embd": 32,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 8,
        "n_ff": 40,
        "vocab_size": N_WORDS,
        "context_tokens": N_POSITIONS,
        "norm_epsilon": 1e-5,
        **changes,
    }
    for name, default in (("ropes", (rope(values["head_dim"]),)), ("window_tokens", (0,))):
        each = values.get(name, default)
        values[name] = (each * values["n_layers"])[: values["n_layers"]]
    return DecoderSpec(**values)


@dataclass(frozen=True)
class Variant:
    """A spec, and which optional tensors there are.

    extras   names of optional ones, without the layer: "query_norm", "query.bias", "expert.0.ffn_up.bias", …
    apart    heads have norm weights of their own
    blind    attention adds nothing, so that nothing is rounded to the float16 of the cache
    typed    the type of all matrices whose columns it divides; others are float32
    """

    spec: DecoderSpec
    extras: frozenset[str] = frozenset({"attention_norm", "ffn_norm", "output_norm"})
    apart: bool = False
    typed: TensorType = TensorType.F32
    seed: int = 0
    blind: bool = False
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def _ffn_sizes(self) -> dict[str, tuple[int, int]]:
        spec = self.spec
        sizes = {"ffn_up": (spec.n_ff, spec.n_embd), "ffn_down": (spec.n_embd, spec.n_ff)}
        if spec.gated:
            sizes["ffn_gate"] = (spec.n_ff, spec.n_embd)
        if spec.experts is None:
            return sizes
        experts = {f"expert.{e}.{n}": size for e in range(spec.experts.n_experts) for n, size in sizes.items()}
        return {"router": (spec.experts.n_experts, spec.n_embd), **experts}

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every matrix of a layer."""
        spec = self.spec
        heads, kv_heads = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
        return {
            "query": (heads, spec.n_embd),
            "key": (kv_heads, spec.n_embd),
            "value": (kv_heads, spec.n_embd),
            "attention_output": (spec.n_embd, heads),
            **self._ffn_sizes(),
        }

    def _layer_sizes(self) -> dict[str, tuple[int, int]]:
        spec = self.spec
        sizes = self.matrices()
        norms = dict.fromkeys(NORMS[:4], (1, spec.n_embd))
        norms["query_norm"] = (spec.n_heads if self.apart else 1, spec.head_dim)
        norms["key_norm"] = (spec.n_kv_heads if self.apart else 1, spec.head_dim)
        sizes |= {name: size for name, size in norms.items() if name in self.extras}
        return sizes | self._bias_sizes(sizes)

    def _bias_sizes(self, sizes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        return {
            f"{name}.bias": (size if "norm" in name else (1, size[0]))
            for name, size in sizes.items()
            if f"{name}.bias" in self.extras and ("norm" not in name or self.spec.norm == "layer")
        }

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every tensor."""
        n_embd, n_words = self.spec.n_embd, self.spec.vocab_size
        optional = {
            "position_embedding": (N_POSITIONS, n_embd),
            "type_embedding": (1, n_embd),
            "embedding_norm": (1, n_embd),
            "output_norm": (1, n_embd),
            "output": (n_words, n_embd),
        }
        top = {name: size for name, size in optional.items() if name in self.extras}
        top |= self._bias_sizes(top)
        layers = {f"{i}.{n}": s for i in range(self.spec.n_layers) for n, s in self._layer_sizes().items()}
        return {"token_embedding": (n_words, n_embd), **top, **layers}

    def tensors(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Random weights; those that get quantized are already what quantizing makes of them."""
        if "tensors" not in self.cache:
            rng = np.random.default_rng(self.seed)
            self.cache["tensors"] = {name: self._random(name, size, rng) for name, size in self.sizes().items()}
        tensors: Mapping[str, npt.NDArray[np.float64]] = self.cache["tensors"]
        return tensors

    def _random(self, name: str, size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
        if self.blind and "attention_output" in name:
            return np.zeros(size)
        if name.endswith("bias"):
            values = rng.normal(0, 0.3, size)
        elif "norm" in name:
            values = rng.uniform(0.5, 1.5, size)
        else:
            values = rng.normal(0, 0.5 if "embedding" in name else 1.5 / np.sqrt(size[1]), size)
        encoded = encode(values.astype(np.float32), self._type_of(name, size), rng)
        return decode(encoded, self._type_of(name, size)).astype(np.float64)

    def _type_of(self, name: str, size: tuple[int, int]) -> TensorType:
        is_matrix = size[0] > 1 and "norm" not in name and size[1] % self.typed.block_elements == 0
        return self.typed if is_matrix else TensorType.F32

    def decoder(self, *, isa: str = "", n_threads: int = 1, kv_type: str = "f16") -> _core.Decoder:
        """The core's, ready to step."""
        decoder = _core.Decoder(decoder_shape(self.spec), n_threads, isa, kv_type=_core.KvType[kv_type])
        for name, array in self.tensors().items():
            set_array(decoder, name, array, self._type_of(name, array.shape))
        decoder.complete()
        return decoder

    def reference(self, *, kv_type: str = "f16") -> Reference:
        """The one in float64."""
        return Reference(self.spec, self.tensors(), kv_type)


LINEARS = ("query", "key", "value", "attention_output", "ffn_gate", "ffn_up", "ffn_down", "router")
NORMS = ("attention_norm", "attention_post_norm", "ffn_norm", "ffn_post_norm", "query_norm", "key_norm")
SEQUENTIAL = (  # norms of the two branches
    {"attention_norm", "ffn_norm"},
    {"attention_norm", "ffn_norm", "attention_post_norm", "ffn_post_norm"},
    {"attention_post_norm", "ffn_post_norm"},
)


@st.composite
def specs(draw: st.DrawFn, **fixed: Any) -> DecoderSpec:
    """Any that is not nonsense."""
    head_dim = draw(st.sampled_from((8, 12, 16, 22)))
    n_kv_heads = draw(st.integers(1, 2))
    n_layers = draw(st.integers(1, 3))
    layouts = st.sampled_from(("interleaved", "half"))
    pairs = draw(st.integers(1, head_dim // 2))
    layout, partial = draw(layouts), tuple(base_frequencies(10_000.0, head_dim).tolist())[:pairs]
    some_ropes = (
        None,
        RopeSpec(layout, partial, draw(st.sampled_from((1.0, 1.2)))),
        RopeSpec(layout, tuple(f / 2 for f in partial)),
    )
    long = LongRope(16, RopeSpec(layout, tuple(f / 3 for f in partial), 1.1))
    parallel = draw(st.booleans())
    softcap, scale = st.sampled_from((None, 3.0)), st.sampled_from((1.0, 0.7))
    values = {
        "n_layers": n_layers,
        "n_embd": draw(st.sampled_from((20, 32, 64))),
        "n_heads": n_kv_heads * draw(st.integers(1, 3)),
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
        "n_ff": draw(st.sampled_from((24, 32, 64))),
        "norm_epsilon": draw(st.sampled_from((1e-5, 1e-2))),
        "ropes": tuple(draw(st.sampled_from(some_ropes)) for _ in range(n_layers)),
        "window_tokens": tuple(draw(st.sampled_from((0, 1, 7))) for _ in range(n_layers)),
        "long_rope": draw(st.sampled_from((None, long))),
        "norm": draw(st.sampled_from(("rms", "layer"))),
        "parallel": parallel,
        "norms_sum": not parallel and draw(st.booleans()),
        "gated": draw(st.booleans()),
        "activation": draw(st.sampled_from(("silu", "gelu", "gelu_tanh", "relu"))),
        "experts": draw(st.sampled_from((None, Experts(4, 2), Experts(3, 1, False), Experts(3, 3, False)))),
        "causal": draw(st.booleans()),
        "attention_scale": draw(st.sampled_from((None, 0.4))),
        "attention_softcap": draw(softcap),
        "logit_softcap": draw(softcap),
        "embedding_scale": draw(scale),
        "residual_scale": draw(scale),
        "logit_scale": draw(scale),
    }
    return llama(**{**values, **fixed})


@st.composite
def variants(draw: st.DrawFn, *, typed: TensorType | None = None, blind: bool = False, **fixed: Any) -> Variant:
    """Any spec, some fields of which may be fixed, with optional tensors."""
    spec = draw(specs(**fixed))
    if spec.parallel:
        norms = draw(st.sampled_from(({"attention_norm"}, {"attention_norm", "ffn_norm"})))
    else:
        norms = draw(st.sampled_from(SEQUENTIAL[1:] if spec.norms_sum else SEQUENTIAL))
    extras = set(norms)
    if not spec.norms_sum or draw(st.booleans()):
        extras.add("output_norm")
    extras |= draw(st.sets(st.sampled_from(("query_norm", "key_norm", "position_embedding", "type_embedding"))))
    extras |= draw(st.sets(st.sampled_from(("embedding_norm", "output") if spec.causal else ("embedding_norm",))))
    n_experts = 0 if spec.experts is None else spec.experts.n_experts
    experts = [f"expert.{e}.{name}" for e in range(n_experts) for name in LINEARS[4:7]]
    for name in draw(st.sets(st.sampled_from((*LINEARS, *NORMS, *experts, "embedding_norm", "output_norm", "output")))):
        extras.add(f"{name}.bias")
    some_types = st.sampled_from((TensorType.F32, TensorType.F16, TensorType.Q8_0))
    drawn_type = draw(some_types) if typed is None else typed
    return Variant(spec, frozenset(extras), draw(st.booleans()), drawn_type, draw(st.integers(0, 99)), blind)


def random_adapter(variant: Variant, seed: int, rank: int, *, scale: float = 1.0) -> Adapter:
    """For every matrix of every layer that may have one, of a size to be noticed."""
    rng = np.random.default_rng(seed)
    factors = {
        f"{layer}.{name}": (rng.normal(0, 0.5 / np.sqrt(columns), (rank, columns)), rng.normal(0, 1, (rows, rank)))
        for layer in range(variant.spec.n_layers)
        for name, (rows, columns) in variant.matrices().items()
        if not name.startswith("expert")
    }
    return Adapter(factors, scale)


def add_adapter(decoder: _core.Decoder, adapter: Adapter, adapter_id: int | None = None) -> int:
    """Hand over its factors, to a new adapter or the one of this id; its id."""
    adapter_id = decoder.add_adapter() if adapter_id is None else adapter_id
    for name, (a, b) in adapter.factors.items():
        typed = [(int(TensorType.F32), x.astype(np.float32).view(np.uint8).reshape(-1)) for x in (a, b)]
        decoder.set_adapter_matrix(adapter_id, name, len(a), *typed)
    return adapter_id


def read_states(
    decoder: _core.Decoder, tokens: Sequence[int], chunks: Sequence[int] = (), **options: Any
) -> list[npt.NDArray[np.float32]]:
    """Final hidden states of one sequence, [n, n_embd], read in steps of these sizes and one more with the rest.

    options   of the step
    """
    table = np.arange(-(-len(tokens) // PAGE_TOKENS), dtype=np.int32)[None]
    decoder.reserve_pages(table.size)
    states: list[npt.NDArray[np.float32]] = []
    for size in (*chunks, len(tokens)):
        begin = len(states)
        piece = np.array(tokens[begin : begin + size], np.int32)
        n = len(piece)
        if n:
            positions = np.arange(begin, begin + n, dtype=np.int32)
            decoder.step(piece, positions, np.zeros(n, np.int32), table, np.arange(n, dtype=np.int32), **options)
            states += [decoder.hidden(row) for row in range(n)]
    return states
