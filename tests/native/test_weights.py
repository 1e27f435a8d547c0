"""Which tensors a build of a transformer needs, takes, and refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from madang import _core
from madang.formats.spec import DecoderSpec, Experts, LongRope, RopeSpec
from madang.native.loader import decoder_shape
from tests.native.bare import set_array
from tests.native.variants import Variant, llama, rope

PRE = frozenset({"attention_norm", "ffn_norm", "output_norm"})
POST = frozenset({"attention_post_norm", "ffn_post_norm", "output_norm"})
EXPERTS = llama(experts=Experts(3, 2))


def fill(spec: DecoderSpec, extras: Iterable[str], *, without: Iterable[str] = (), more: Any = None) -> None:
    """Complete a decoder of these tensors."""
    variant = Variant(spec, frozenset(extras))
    decoder = _core.Decoder(decoder_shape(spec), 1, "")
    for name, array in {**variant.tensors(), **(more or {})}.items():
        if name not in without:
            set_array(decoder, name, array)
    decoder.complete()


MISSING = [
    (llama(), PRE, "0.attention_norm"),
    (llama(), PRE, "1.ffn_norm"),
    (llama(), PRE, "output_norm"),
    (llama(), PRE, "token_embedding"),
    (llama(), PRE, "1.ffn_gate"),
    (llama(gated=False), PRE, "0.ffn_up"),
    (llama(parallel=True), PRE - {"ffn_norm"}, "0.attention_norm"),
    (llama(norms_sum=True), POST | PRE, "1.ffn_post_norm"),
    (llama(norms_sum=True), POST, "0.attention_post_norm"),
    (EXPERTS, PRE, "0.router"),
    (EXPERTS, PRE, "1.expert.2.ffn_gate"),
    # What one layer has, all have.
    (llama(), PRE | {"query.bias"}, "0.query.bias"),
    (llama(), PRE | {"query.bias"}, "1.query.bias"),
    (llama(), PRE | {"query_norm"}, "1.query_norm"),
    (llama(), PRE | {"ffn_post_norm"}, "0.ffn_post_norm"),
    (llama(norm="layer"), PRE | {"attention_norm.bias"}, "1.attention_norm.bias"),
    # A bias of nothing.
    (llama(norm="layer"), PRE | {"query_norm", "query_norm.bias"}, "0.query_norm"),
    (llama(norm="layer"), PRE | {"embedding_norm", "embedding_norm.bias"}, "embedding_norm"),
]


@pytest.mark.parametrize(("spec", "extras", "name"), MISSING, ids=[f"{i}-{case[2]}" for i, case in enumerate(MISSING)])
def test_a_missing_tensor_is_named(spec: DecoderSpec, extras: frozenset[str], name: str) -> None:
    fill(spec, extras)
    with pytest.raises(ValueError, match=rf"^tensor '{name}' is missing$"):
        fill(spec, extras, without=[name])


OF_OTHERS = [
    (llama(gated=False), "0.ffn_gate", (40, 32)),
    (llama(), "0.router", (4, 32)),
    (llama(), "0.expert.0.ffn_up", (40, 32)),
    (EXPERTS, "0.ffn_up", (40, 32)),
    (EXPERTS, "0.expert.3.ffn_up", (40, 32)),
    (llama(), "0.attention_norm.bias", (1, 32)),  # RMS norms have none
    (llama(parallel=True), "0.ffn_post_norm", (1, 32)),
    (llama(), "token_embedding.bias", (1, 32)),
    (llama(causal=False), "output", (43, 32)),
]


@pytest.mark.parametrize(("spec", "name", "size"), OF_OTHERS, ids=[case[1] for case in OF_OTHERS])
def test_a_tensor_of_another_build_is_refused(spec: DecoderSpec, name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"no tensor '{name}' in this model"):
        fill(spec, PRE, more={name: np.ones(size)})


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("0.query.bias", (1, 31), "1 x 32"),
        ("0.key.bias", (1, 32), "1 x 16"),
        ("0.query_norm", (2, 8), "4 x 8"),
        ("0.query_norm", (1, 32), "4 x 8"),
        ("position_embedding", (20, 31), "20 x 31, expected 20 x 32"),
        ("type_embedding", (2, 31), "2 x 31, expected 2 x 32"),
    ],
)
def test_a_tensor_of_another_size_is_refused(name: str, size: tuple[int, int], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        fill(llama(), PRE, more={name: np.ones(size)})


HALF = RopeSpec("half", rope(8).inverse_frequencies)
SHORT = RopeSpec("interleaved", rope(8).inverse_frequencies[:3])
NONSENSE = [
    llama(ropes=(rope(16),)),
    llama(long_rope=LongRope(9, HALF)),
    llama(long_rope=LongRope(9, SHORT)),
    llama(ropes=(rope(8), SHORT), long_rope=LongRope(9, rope(8))),
    llama(experts=Experts(4, 5)),
    llama(experts=Experts(4, 0)),
    llama(experts=Experts(0, 1)),
    llama(parallel=True, norms_sum=True),
    llama(window_tokens=(-1,)),
]


@pytest.mark.parametrize("spec", NONSENSE, ids=range(len(NONSENSE)))
def test_a_spec_that_contradicts_itself(spec: DecoderSpec) -> None:
    with pytest.raises(ValueError, match="contradict"):
        _core.Decoder(decoder_shape(spec), 1, "")


def test_biases_count_among_the_weights() -> None:
    variant = Variant(llama(), PRE | {"query.bias", "ffn_down.bias"})
    n_weights = sum(rows * columns for rows, columns in variant.sizes().values())
    assert 4 * n_weights <= variant.decoder().weight_bytes <= 4.5 * n_weights
