"""What a traced step shows is what the reference has inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from madang.formats.tensors import TensorType
from tests.native.variants import N_WORDS, Variant, llama, read_states, variants

texts = st.lists(st.integers(0, N_WORDS - 1), min_size=1, max_size=30)


@pytest.mark.parametrize("isa", _core.available_isas())
@given(variants(typed=TensorType.F32), texts)
@settings(max_examples=40, derandomize=True)
def test_hidden_states_and_attention(isa: str, variant: Variant, text: list[int]) -> None:
    decoder = variant.decoder(isa=isa)
    plain = read_states(decoder, text)
    assert np.array_equal(read_states(decoder, text, trace=True), plain)
    expected = variant.reference().run(text)
    hidden, attention = np.stack(expected.hidden), np.stack(expected.attention)
    assert decoder.traced_hidden().shape == hidden.shape
    assert decoder.traced_attention().shape == attention.shape
    assert np.abs(decoder.traced_hidden() - hidden).max() < 4e-3 * max(hidden.std(), 1)
    assert np.abs(decoder.traced_attention() - attention).max() < 4e-3
    assert np.allclose(decoder.traced_attention().sum(-1), 1, atol=1e-5)


def test_positions_of_earlier_steps_are_seen() -> None:
    variant, text = Variant(llama(window_tokens=(0, 5))), list(range(25))
    decoder = variant.decoder()
    read_states(decoder, text, (20, 4))
    read_states(decoder, text, (24,), trace=True)
    expected = np.stack(variant.reference().run(text).attention)
    assert decoder.traced_attention().shape == (2, 4, 1, 25)
    assert np.abs(decoder.traced_attention() - expected[:, :, -1:]).max() < 4e-3


def test_int8_keys_are_seen_as_attention_sees_them() -> None:
    variant, text = Variant(llama(head_dim=40)), list(range(25))
    decoder = variant.decoder(kv_type="int8")
    read_states(decoder, text, trace=True)
    expected = np.stack(variant.reference(kv_type="int8").run(text).attention)
    assert np.abs(decoder.traced_attention() - expected).max() < 2e-2
    assert np.abs(decoder.traced_attention()[0] - expected[0]).max() < 2e-3  # no layer before it rounded otherwise


def test_sequences_of_a_batch_are_apart() -> None:
    decoder = Variant(llama()).decoder()
    decoder.reserve_pages(2)
    tokens, positions, sequences = (np.array(v, np.int32) for v in ([1, 2, 3], [0, 1, 0], [0, 0, 1]))
    decoder.step(tokens, positions, sequences, np.array([[0], [1]], np.int32), np.array([0], np.int32), trace=True)
    assert np.array_equal(decoder.traced_attention()[:, :, [0, 2]], np.tile([1.0, 0.0], (2, 4, 2, 1)))


def test_an_untraced_step_leaves_nothing() -> None:
    decoder = Variant(llama()).decoder()
    read_states(decoder, [1, 2], trace=True)
    read_states(decoder, [1, 2])
    for traced in (decoder.traced_hidden, decoder.traced_attention):
        with pytest.raises(ValueError, match="not traced"):
            traced()


def test_states_of_a_layer_are_read_out_as_the_last_ones_are() -> None:
    decoder, text = Variant(llama()).decoder(), list(range(20))
    read_states(decoder, text, trace=True)
    last, logits = decoder.traced_hidden()[-1], [decoder.logits(row) for row in range(len(text))]
    decoder.read_out(last)
    assert np.array_equal([decoder.logits(row) for row in range(len(text))], logits)
    decoder.read_out(last[7:9])
    assert np.array_equal(decoder.logits(1), logits[8])
    with pytest.raises(ValueError, match="no such row"):
        decoder.logits(2)
    with pytest.raises(ValueError, match="n_embd"):
        decoder.read_out(last[:, :-1].copy())


def test_a_dropped_trace_is_gone() -> None:
    decoder = Variant(llama()).decoder()
    read_states(decoder, [1, 2], trace=True)
    decoder.drop_trace()
    with pytest.raises(ValueError, match="not traced"):
        decoder.traced_hidden()
