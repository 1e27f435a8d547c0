"""Encoders: every token sees its whole text, which comes in one step; there are no logits."""

from __future__ import annotations

import numpy as np
import pytest

from madang import _core
from tests.native.bare import set_array
from tests.native.variants import N_POSITIONS, Variant, llama, read_states
from tests.parity.running import PAGE_TOKENS

BERT = Variant(
    llama(norm="layer", norms_sum=True, gated=False, activation="gelu", causal=False, ropes=(None,)),
    frozenset({"position_embedding", "type_embedding", "embedding_norm", "embedding_norm.bias", "query.bias"})
    | {"attention_post_norm", "attention_post_norm.bias", "ffn_post_norm", "ffn_up.bias"},
)
TEXT = list(range(20))


@pytest.fixture(scope="module")
def decoder() -> _core.Decoder:
    return BERT.decoder()


def test_later_tokens_are_seen(decoder: _core.Decoder) -> None:
    states = read_states(decoder, TEXT)
    assert not np.array_equal(read_states(decoder, TEXT[:-1])[0], states[0])
    assert np.abs(np.stack(states) - BERT.reference().run(TEXT).final).max() < 4e-3


def test_there_are_no_logits(decoder: _core.Decoder) -> None:
    read_states(decoder, TEXT)
    with pytest.raises(ValueError, match="no such row of logits"):
        decoder.logits(0)
    with pytest.raises(ValueError, match="no tensor 'output'"):
        set_array(decoder, "output", np.zeros((BERT.spec.vocab_size, BERT.spec.n_embd)))


@pytest.mark.parametrize(
    ("positions", "sequences"),
    [([1, 2, 3], [0, 0, 0]), ([0, 1, 2], [0, 0, 1]), ([0, 0, 1], [0, 1, 0]), ([0, 0, 0], [0, 1, 0])],
    ids=["from the middle", "of two", "one in two pieces", "one twice"],
)
def test_a_text_in_pieces_is_refused(decoder: _core.Decoder, positions: list[int], sequences: list[int]) -> None:
    before = read_states(decoder, TEXT)
    batch = (np.array(values, np.int32) for values in ([1, 2, 3], positions, sequences, [[0], [1]], [0]))
    with pytest.raises(ValueError, match="whole sequence"):
        decoder.step(*batch)
    assert np.array_equal(read_states(decoder, TEXT), before)


def test_a_text_longer_than_its_learned_positions(decoder: _core.Decoder) -> None:
    assert len(read_states(decoder, [1] * N_POSITIONS)) == N_POSITIONS
    with pytest.raises(ValueError, match="positions that the model has learned"):
        read_states(decoder, [1] * (N_POSITIONS + 1))
    assert N_POSITIONS % PAGE_TOKENS  # the page table had room
