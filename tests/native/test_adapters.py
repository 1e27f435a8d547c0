"""Low-rank adapters at run time: what they add, to whom, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from madang import _core
from madang.formats.spec import Experts
from madang.formats.tensors import TensorType
from tests.native.reference import Adapter
from tests.native.variants import Variant, add_adapter, llama, random_adapter, read_states
from tests.parity.blocks import encode

VARIANT = Variant(
    llama(gated=True),
    frozenset({"attention_norm", "ffn_norm", "output_norm", "output", "query.bias", "ffn_up.bias", "output.bias"}),
)
TEXT = np.random.default_rng(5).integers(0, VARIANT.spec.vocab_size, 21).tolist()
each_isa = pytest.mark.parametrize("isa", _core.available_isas())
Floats = npt.NDArray[np.float32]


def states(decoder: _core.Decoder, adapter: int, scale: float, chunks: tuple[int, ...] = ()) -> Floats:
    ids, scales = np.array([adapter], np.int32), np.array([scale], np.float32)
    return np.stack(read_states(decoder, TEXT, chunks, adapters=ids, adapter_scales=scales))


def assert_close(actual: Any, expected: npt.NDArray[np.float64]) -> None:
    assert np.abs(actual - expected).max() < 4e-3 * expected.std()


VARIANTS = {
    "gated": VARIANT,
    "plain": Variant(llama(gated=False, n_embd=20, n_ff=24)),
    "parallel": Variant(llama(parallel=True), frozenset({"attention_norm", "output_norm"})),
    "post norms": Variant(llama(norms_sum=True), frozenset({"attention_post_norm", "ffn_post_norm"})),
    "quantized": Variant(llama(n_ff=64), typed=TensorType.Q8_0),
    "experts": Variant(llama(experts=Experts(4, 2))),
}


@each_isa
@pytest.mark.parametrize("name", VARIANTS)
def test_it_adds_its_products(name: str, isa: str) -> None:
    variant = VARIANTS[name]
    decoder = variant.decoder(isa=isa)
    for seed, rank in ((1, 1), (2, 5), (3, 40)):
        adapter = random_adapter(variant, seed, rank, scale=0.7)
        expected = variant.reference().run(TEXT, adapter=adapter).final
        assert_close(states(decoder, add_adapter(decoder, adapter), 0.7, (4, 1)), expected)
    bare = variant.reference().run(TEXT).final
    assert np.abs(expected - bare).max() > 0.1 * bare.std()  # it does matter


def test_of_the_output_matrix() -> None:
    for variant in (VARIANT, Variant(llama())):  # its own, or the embedding's
        decoder, spec = variant.decoder(), variant.spec
        rng = np.random.default_rng(0)
        factors = {"output": (rng.normal(size=(3, spec.n_embd)), rng.normal(size=(spec.vocab_size, 3)))}
        adapter = Adapter(factors, 0.5)
        ids = np.array([add_adapter(decoder, adapter)], np.int32)
        read_states(decoder, TEXT, adapters=ids, adapter_scales=np.array([0.5], np.float32))
        logits = np.stack([decoder.logits(row) for row in range(len(TEXT))])
        assert_close(logits, variant.reference().run(TEXT, adapter=adapter).logits)


def test_each_sequence_has_its_own_and_nothing_of_the_others() -> None:
    decoder = VARIANT.decoder()
    ids = [add_adapter(decoder, random_adapter(VARIANT, seed, 4)) for seed in (1, 2)]
    whose = [(ids[0], 1.0), (-1, 5.0), (ids[1], 1.0), (ids[0], 0.25), (ids[0], 1.0)]
    alone = [states(decoder, adapter, scale) for adapter, scale in whose]
    n, s = len(TEXT), len(whose)
    tables = np.arange(2 * s, dtype=np.int32).reshape(s, 2)
    decoder.reserve_pages(2 * s)
    decoder.step(
        np.array(TEXT * s, np.int32),
        np.tile(np.arange(n, dtype=np.int32), s),
        np.repeat(np.arange(s, dtype=np.int32), n),
        tables,
        np.arange(n * s, dtype=np.int32),
        adapters=np.array([adapter for adapter, _ in whose], np.int32),
        adapter_scales=np.array([scale for _, scale in whose], np.float32),
    )
    together = np.stack([decoder.hidden(row) for row in range(n * s)])
    assert np.array_equal(together, np.concatenate(alone))
    assert np.array_equal(alone[1], np.stack(read_states(VARIANT.decoder(), TEXT)))
    assert not np.array_equal(alone[0], alone[3])


def test_a_scale_of_zero_changes_nothing() -> None:
    decoder = VARIANT.decoder()
    bare = np.stack(read_states(decoder, TEXT))
    adapter = add_adapter(decoder, random_adapter(VARIANT, 1, 4))
    assert np.array_equal(states(decoder, adapter, 0.0), bare)


@pytest.mark.parametrize("tensor_type", [TensorType.F16, TensorType.BF16])
def test_factors_of_other_float_types(tensor_type: TensorType) -> None:
    decoder, spec = VARIANT.decoder(), VARIANT.spec
    rng = np.random.default_rng(0)
    a, b = (np.rint(rng.normal(0, 4, size)) / 8 for size in ((3, spec.n_embd), (spec.n_heads * spec.head_dim, 3)))
    adapter = decoder.add_adapter()
    typed = [
        (int(tensor_type), encode(x.astype(np.float32), tensor_type, rng).view(np.uint8).reshape(-1)) for x in (a, b)
    ]
    decoder.set_adapter_matrix(adapter, "1.query", 3, *typed)
    expected = VARIANT.reference().run(TEXT, adapter=Adapter({"1.query": (a, b)}, 2.0)).final
    assert_close(states(decoder, adapter, 2.0), expected)


def floats(*size: int) -> tuple[int, npt.NDArray[np.uint8]]:
    return 0, np.zeros(size, np.float32).view(np.uint8).reshape(-1)


N_EMBD, N_HEADS = VARIANT.spec.n_embd, VARIANT.spec.n_heads * VARIANT.spec.head_dim
BAD_FACTORS = {
    "no such matrix": (("2.query", 3, floats(3, N_EMBD), floats(N_HEADS, 3)), "no matrix '2.query'"),
    "a norm": (("0.attention_norm", 3, floats(3, N_EMBD), floats(1, 3)), "no matrix '0.attention_norm'"),
    "no matrix at all": (("nonsense", 3, floats(3, N_EMBD), floats(N_HEADS, 3)), "no matrix 'nonsense'"),
    "another model's width": (("0.query", 3, floats(3, N_EMBD + 1), floats(N_HEADS, 3)), "not 3 x 32"),
    "another model's heads": (("0.query", 3, floats(3, N_EMBD), floats(N_HEADS + 1, 3)), "not 32 x 3"),
    "no rank": (("0.query", 0, floats(0, N_EMBD), floats(N_HEADS, 0)), "rank 0"),
    "quantized": (("0.query", 32, (8, np.zeros(34 * 32, np.uint8)), floats(N_HEADS, 32)), "float type"),
    "unknown type": (("0.query", 3, (99, np.zeros(5, np.uint8)), floats(N_HEADS, 3)), "type 99"),
}


@pytest.mark.parametrize("case", BAD_FACTORS)
def test_factors_that_do_not_fit(case: str) -> None:
    arguments, message = BAD_FACTORS[case]
    decoder = VARIANT.decoder()
    adapter = add_adapter(decoder, random_adapter(VARIANT, 1, 4))
    before = states(decoder, adapter, 1.0)
    with pytest.raises(ValueError, match=message):
        decoder.set_adapter_matrix(adapter, *arguments)
    assert np.array_equal(states(decoder, adapter, 1.0), before)


def test_experts_take_no_adapters() -> None:
    decoder = VARIANTS["experts"].decoder()
    for name in ("0.expert.0.ffn_up", "0.ffn_up"):
        with pytest.raises(ValueError, match="no matrix"):
            decoder.set_adapter_matrix(decoder.add_adapter(), name, 3, floats(3, 32), floats(40, 3))


def test_an_adapter_that_is_not_there() -> None:
    decoder = VARIANT.decoder()
    adapter = add_adapter(decoder, random_adapter(VARIANT, 1, 4))
    decoder.remove_adapter(adapter)
    bare = np.stack(read_states(decoder, TEXT))
    for unknown in (adapter, 7, -2):
        with pytest.raises(ValueError, match=f"no adapter {unknown}"):
            states(decoder, unknown, 1.0)
        with pytest.raises(ValueError, match=f"no adapter {unknown}"):
            decoder.remove_adapter(unknown)
        with pytest.raises(ValueError, match=f"no adapter {unknown}"):
            decoder.set_adapter_matrix(unknown, "0.query", 3, floats(3, N_EMBD), floats(N_HEADS, 3))
    assert np.array_equal(np.stack(read_states(decoder, TEXT)), bare)
    assert decoder.add_adapter() != adapter


@pytest.mark.parametrize(("n_ids", "n_scales"), [(2, 2), (1, 0), (0, 1), (1, 2)])
def test_as_many_as_sequences(n_ids: int, n_scales: int) -> None:
    decoder = VARIANT.decoder()
    with pytest.raises(ValueError, match="adapters need"):
        read_states(decoder, TEXT, adapters=np.full(n_ids, -1, np.int32), adapter_scales=np.zeros(n_scales, np.float32))


def test_an_empty_adapter_and_one_set_twice() -> None:
    decoder = VARIANT.decoder()
    bare = np.stack(read_states(decoder, TEXT))
    adapter = decoder.add_adapter()
    assert np.array_equal(states(decoder, adapter, 1.0), bare)
    first, second = random_adapter(VARIANT, 1, 4), random_adapter(VARIANT, 2, 9)
    expected = states(decoder, add_adapter(decoder, second), 1.0)
    add_adapter(decoder, first, adapter)
    add_adapter(decoder, second, adapter)
    assert np.array_equal(states(decoder, adapter, 1.0), expected)
