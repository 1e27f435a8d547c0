"""Every build of a transformer that DecoderSpec can describe computes what the reference in float64 computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from madang.formats.spec import Activation
from madang.formats.tensors import TensorType
from madang.native.loader import decoder_shape
from tests.native.bare import set_array
from tests.native.reference import ACTIVATIONS
from tests.native.variants import N_WORDS, Variant, llama, read_states, variants
from tests.parity.running import read

each_isa = pytest.mark.parametrize("isa", _core.available_isas())
texts = st.lists(st.integers(0, N_WORDS - 1), min_size=1, max_size=40)


def assert_close(actual: Any, expected: npt.NDArray[np.float64], tolerance: float) -> None:
    """Everywhere within a fraction of the typical size."""
    error = np.abs(np.array(actual, np.float64) - expected).max()
    assert error < tolerance * max(np.sqrt((expected**2).mean()), 1e-3), error


# Derandomized: with experts, an example in which two are rated alike may go either way. The tolerance is for what
# rounds to another float16 in the cache than it does in the reference.
@each_isa
@given(variants(), texts, st.lists(st.integers(1, 9), max_size=3), st.booleans())
@settings(max_examples=150, derandomize=True)
def test_any_variant(isa: str, variant: Variant, text: list[int], chunks: list[int], long_rope: bool) -> None:
    decoder = variant.decoder(isa=isa)
    expected = variant.reference().run(text, long_rope=long_rope)
    flags = np.array([long_rope], np.int32)
    chunks = chunks if variant.spec.causal else []
    assert_close(read_states(decoder, text, chunks, long_rope=flags), expected.final, 4e-3)
    if variant.spec.causal and not long_rope:
        assert_close(read(decoder, text, chunks), expected.logits, 4e-3)


# Without experts, of which the rounding of the cache may choose others. What rounds to another int8 than in the
# reference is off by a step of 1/127.
@each_isa
@given(variants(experts=None), texts, st.lists(st.integers(1, 9), max_size=3))
@settings(max_examples=60, derandomize=True)
def test_any_variant_with_a_cache_of_int8(isa: str, variant: Variant, text: list[int], chunks: list[int]) -> None:
    expected = variant.reference(kv_type="int8").run(text)
    chunks = chunks if variant.spec.causal else []
    assert_close(read_states(variant.decoder(isa=isa, kv_type="int8"), text, chunks), expected.final, 5e-2)


@each_isa
@given(variants(blind=True, typed=TensorType.F32), texts)
@settings(max_examples=80, derandomize=True)
def test_without_attention_to_the_last_digits(isa: str, variant: Variant, text: list[int]) -> None:
    expected = variant.reference().run(text)
    assert_close(read_states(variant.decoder(isa=isa), text), expected.final, 2e-5)


@each_isa
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu"])
def test_activations(isa: str, activation: Activation, gated: bool) -> None:
    """The branch of a model whose embedding is 0: its inputs are biases from far left to far right."""
    n = 1024
    spec = llama(n_layers=1, n_embd=n, n_ff=n, activation=activation, gated=gated)
    variant = Variant(spec, blind=True)
    x = np.linspace(-12, 12, n, dtype=np.float32)
    decoder = _core.Decoder(decoder_shape(spec), 1, isa)
    for name, (rows, columns) in variant.sizes().items():
        set_array(decoder, name, np.ones((rows, columns)) if "norm" in name else np.zeros((rows, columns)))
    source = "ffn_gate" if gated else "ffn_up"
    set_array(decoder, f"0.{source}.bias", x[None])
    if gated:
        set_array(decoder, "0.ffn_up.bias", np.ones((1, n)))
    set_array(decoder, "0.ffn_down", np.eye(n))
    set_array(decoder, "output_norm", np.ones((1, n)))
    decoder.complete()
    decoder.reserve_pages(1)
    one, zero = np.ones(1, np.int32), np.zeros(1, np.int32)
    decoder.step(one, zero, zero, zero[None], zero, trace=True)
    expected = ACTIVATIONS[activation](x.astype(np.float64))
    error = np.abs(decoder.traced_hidden()[-1, 0] - expected)
    assert (error <= 1e-7 + 4e-7 * np.abs(expected)).all(), error.max()
