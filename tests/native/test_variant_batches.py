"""A token's bits do not depend on its batch, for every build of a transformer, rope set and adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from madang.formats.spec import Experts
from madang.formats.tensors import TensorType
from tests.native.variants import (
    N_WORDS,
    Variant,
    add_adapter,
    llama,
    random_adapter,
    read_states,
    variants,
)
from tests.parity.running import PAGE_TOKENS

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Text:
    """A sequence of a batch, and how it wants to be computed."""

    tokens: tuple[int, ...]
    chunks: tuple[int, ...] = ()
    long_rope: bool = False
    adapter: int = -1
    scale: float = 1.0


texts = st.builds(
    Text,
    st.lists(st.integers(0, N_WORDS - 1), min_size=1, max_size=40).map(tuple),
    st.lists(st.integers(0, 12), max_size=3).map(tuple),
    st.booleans(),
    st.integers(-1, 1),
    st.sampled_from((0.5, 1.0)),
)


def options(texts: Sequence[Text]) -> dict[str, Any]:
    return {
        "long_rope": np.array([text.long_rope for text in texts], np.int32),
        "adapters": np.array([text.adapter for text in texts], np.int32),
        "adapter_scales": np.array([text.scale for text in texts], np.float32),
    }


def read_alone(decoder: _core.Decoder, text: Text) -> Floats:
    return np.stack(read_states(decoder, text.tokens, **options([text])))


def read_together(decoder: _core.Decoder, texts: Sequence[Text], chance: Random) -> list[Floats]:
    """All of them, each in its chunks, in batches of random order on random pages."""
    n_pages = [-(-len(text.tokens) // PAGE_TOKENS) for text in texts]
    pages = iter(np.random.default_rng(chance.randrange(99)).permutation(sum(n_pages)).tolist())
    tables = np.full((len(texts), max(n_pages)), -1, np.int32)
    for table, n in zip(tables, n_pages, strict=True):
        table[:n] = [next(pages) for _ in range(n)]
    decoder.reserve_pages(sum(n_pages))
    states: list[list[Floats]] = [[] for _ in texts]
    for i in range(max(len(text.chunks) for text in texts) + 1):
        sizes = [text.chunks[i] if i < len(text.chunks) else len(text.tokens) for text in texts]
        order = [s for s, text in enumerate(texts) if sizes[s] and len(states[s]) < len(text.tokens)]
        chance.shuffle(order)
        pieces = [(s, p) for s in order for p in range(len(states[s]), len(texts[s].tokens))[: sizes[s]]]
        if not pieces:
            continue
        tokens = np.array([texts[s].tokens[p] for s, p in pieces], np.int32)
        sequences, positions = np.array(pieces, np.int32).T.copy()
        decoder.step(tokens, positions, sequences, tables, np.arange(len(pieces), dtype=np.int32), **options(texts))
        for row, (s, _) in enumerate(pieces):
            states[s].append(decoder.hidden(row))
    return [np.stack(rows) for rows in states]


def assert_alone_as_together(variant: Variant, texts: Sequence[Text], chance: Random, **how: Any) -> None:
    decoder = variant.decoder(**how)
    for seed in range(2):
        add_adapter(decoder, random_adapter(variant, seed, 3 + 5 * seed))
    texts = [text if variant.spec.causal else replace(text, chunks=()) for text in texts]
    alone = [read_alone(decoder, text) for text in texts]
    for states, expected in zip(read_together(decoder, texts, chance), alone, strict=True):
        assert np.array_equal(states, expected)


@pytest.mark.parametrize("isa", _core.available_isas())
@given(
    variants(),
    st.lists(texts, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.fixed_dictionaries({"n_threads": st.integers(1, 2), "kv_type": st.sampled_from(("f16", "int8"))}),
)
@settings(max_examples=60)
def test_any_variant(isa: str, variant: Variant, texts: list[Text], chance: Random, how: dict[str, Any]) -> None:
    assert_alone_as_together(variant, texts, chance, isa=isa, **how)


MANY = [Text(tuple(np.random.default_rng(s).integers(0, N_WORDS, 9 + s).tolist()), (5, 1)) for s in range(20)]


@pytest.mark.parametrize("typed", [TensorType.F32, TensorType.Q8_0, TensorType.BF16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("experts", [Experts(8, 2), Experts(5, 5, False)])
def test_many_tokens_that_share_experts(experts: Experts, causal: bool, typed: TensorType) -> None:
    variant = Variant(llama(experts=experts, causal=causal, n_ff=64), typed=typed)
    assert_alone_as_together(variant, MANY, Random(0), n_threads=2)
