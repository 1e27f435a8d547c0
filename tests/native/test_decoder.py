"""What the core refuses, and that it goes on afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from madang import _core
from madang.formats.tensors import TensorType
from tests.native.bare import BareModel, bare_decoder, set_array
from tests.parity.running import PAGE_TOKENS, read

MODEL = BareModel(windows=(0, 0))
TEXT = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture(scope="module")
def decoder() -> _core.Decoder:
    """One for all tests, with a page of cache, so that each also shows that the ones before did no harm."""
    decoder = bare_decoder(MODEL)
    decoder.reserve_pages(2)
    return decoder


GOOD: Mapping[str, Any] = {
    "tokens": [1, 2, 3],
    "positions": [0, 1, 2],
    "sequences": [0, 0, 0],
    "page_tables": [[0, 1]],
    "outputs": [2],
}


def step(decoder: _core.Decoder, **changes: Any) -> None:
    batch = {**GOOD, **changes}
    decoder.step(**{name: np.array(values, np.int32) for name, values in batch.items()})


BAD_BATCHES = {
    "nothing": {"tokens": [], "positions": [], "sequences": [], "outputs": []},
    "token beyond the vocabulary": {"tokens": [1, MODEL.vocab_size, 3]},
    "negative token": {"tokens": [1, 2, -1]},
    "fewer positions": {"positions": [0, 1]},
    "fewer sequences": {"sequences": [0, 0]},
    "more positions": {"positions": [0, 1, 2, 3]},
    "negative position": {"positions": [-1, 0, 1]},
    "gap": {"positions": [0, 1, 3]},
    "same position twice": {"positions": [0, 1, 1]},
    "falling positions": {"positions": [2, 1, 0]},
    "position beyond the page table": {"positions": [2 * PAGE_TOKENS - 2, 2 * PAGE_TOKENS - 1, 2 * PAGE_TOKENS]},
    "largest position": {"positions": [2**31 - 3, 2**31 - 2, 2**31 - 1]},
    "sequence without a table": {"sequences": [0, 0, 1], "positions": [0, 1, 0]},
    "negative sequence": {"sequences": [-1, -1, -1]},
    "page that does not exist": {"page_tables": [[2**31 - 1, 1]]},
    "negative page": {"page_tables": [[-1, 1]]},
    "no page tables": {"page_tables": np.empty((0, 2))},
    "empty page tables": {"page_tables": np.empty((1, 0))},
    "output beyond the batch": {"outputs": [3]},
    "negative output": {"outputs": [-1]},
}


@pytest.mark.parametrize("changes", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_a_bad_batch_is_refused_and_the_next_one_works(decoder: _core.Decoder, changes: dict[str, Any]) -> None:
    before = read(decoder, TEXT)
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        step(decoder, **changes)
    assert np.array_equal(read(decoder, TEXT[4:], start=4), before[4:])  # the cache, too, is as it was
    assert np.array_equal(read(decoder, TEXT), before)


def test_an_earlier_page_of_the_sequence_is_looked_at_too(decoder: _core.Decoder) -> None:
    with pytest.raises(ValueError, match="page"):
        step(decoder, positions=[PAGE_TOKENS, PAGE_TOKENS + 1, PAGE_TOKENS + 2], page_tables=[[-1, 1]])


@pytest.mark.parametrize("name", GOOD)
def test_arrays_of_another_shape_are_refused(decoder: _core.Decoder, name: str) -> None:
    batch = {key: np.array([values] if key == name else values, np.int32) for key, values in GOOD.items()}
    with pytest.raises(TypeError):
        decoder.step(**batch)


def test_logits_are_a_copy(decoder: _core.Decoder) -> None:
    step(decoder)
    first = decoder.logits(0)
    kept = first.copy()
    step(decoder, tokens=[7, 8, 9])
    assert np.array_equal(first, kept)
    assert not np.array_equal(decoder.logits(0), kept)


@pytest.mark.parametrize("row", [1, 2])
def test_a_row_that_the_last_step_did_not_make_is_refused(decoder: _core.Decoder, row: int) -> None:
    step(decoder, outputs=[0, 1, 2])
    step(decoder, outputs=[2])
    with pytest.raises((ValueError, IndexError)):
        decoder.logits(row)


def test_nothing_is_left_before_the_first_step() -> None:
    decoder = bare_decoder(MODEL)
    with pytest.raises((ValueError, IndexError)):
        decoder.logits(0)
    with pytest.raises((ValueError, IndexError)):
        _core.Sampler(_core.SamplerOptions()).sample(decoder, 0)


def test_an_incomplete_decoder_refuses_to_step() -> None:
    decoder = _core.Decoder(MODEL.shape(), 1, "")
    decoder.reserve_pages(1)
    zero = np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="completed"):
        decoder.step(zero, zero, zero, np.zeros((1, 1), np.int32), zero)


def test_facts(decoder: _core.Decoder) -> None:
    assert decoder.n_threads == 1
    assert decoder.isa == _core.available_isas()[0]
    assert decoder.n_pages >= 2
    assert decoder.page_bytes == 2 * 2 * 2 * MODEL.n_kv_heads * MODEL.head_dim * PAGE_TOKENS
    assert decoder.weight_bytes >= 4 * sum(rows * columns for rows, columns in MODEL.sizes().values())
    n_pages = decoder.n_pages
    decoder.reserve_pages(1)
    assert decoder.n_pages == n_pages


# ---- loading


BAD_SHAPES = {
    "heads that cannot share": {"n_heads": 3, "n_kv_heads": 2},
    "no layers": {"n_layers": 0},
    "negative": {"n_embd": -1},
    "windows for other layers": {"window_tokens": [0]},
    "huge heads": {"head_dim": 1 << 20},
    "more frequencies than pairs": {"head_dim": 14},
}


@pytest.mark.parametrize("edits", BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_a_shape_that_contradicts_itself(edits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="contradict"):
        _core.Decoder(BareModel(windows=(0, 0), edits=edits).shape(), 1, "")


def test_an_instruction_set_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=f"'mmx' cannot run here.*{_core.available_isas()[0]}"):
        _core.Decoder(MODEL.shape(), 1, "mmx")


@pytest.mark.parametrize("missing", ["token_embedding", "output_norm", "0.attention_norm", "1.query", "1.ffn_down"])
def test_a_missing_tensor_is_named(missing: str) -> None:
    decoder = _core.Decoder(MODEL.shape(), 1, "")
    for name, array in MODEL.random_tensors().items():
        if name != missing:
            set_array(decoder, name, array)
    with pytest.raises(ValueError, match=f"'{missing}' is missing"):
        decoder.complete()


@pytest.mark.parametrize("name", ["nonsense", "2.query", "0.nonsense", "-1.query", "0", ".", "99999999999.query", ""])
def test_a_tensor_that_the_model_has_not(name: str) -> None:
    with pytest.raises(ValueError, match="there is no tensor"):
        set_array(_core.Decoder(MODEL.shape(), 1, ""), name, np.zeros((32, 32)))


@pytest.mark.parametrize(("name", "size"), [("0.query", (32, 64)), ("0.query", (31, 32)), ("output_norm", (1, 31))])
def test_a_tensor_of_another_size(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}, expected"):
        set_array(_core.Decoder(MODEL.shape(), 1, ""), name, np.zeros(size))


BAD_TENSORS = {
    "unknown type": (10, 32, 32, 32 * 32),
    "too few bytes": (0, 32, 32, 32 * 32 * 4 - 1),
    "too many bytes": (0, 32, 32, 32 * 32 * 4 + 1),
    "half a block": (int(TensorType.Q4_K), 32, 32, 32 * 18),
    "no rows": (0, 0, 32, 0),
    "negative": (0, -1, -1024, 4096),
}


@pytest.mark.parametrize(("tensor_type", "rows", "columns", "n_bytes"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bytes_that_are_no_such_tensor(tensor_type: int, rows: int, columns: int, n_bytes: int) -> None:
    decoder = _core.Decoder(MODEL.shape(), 1, "")
    with pytest.raises(ValueError, match="tensor"):
        decoder.set_tensor("0.query", tensor_type, rows, columns, np.zeros(n_bytes, np.uint8))


# ---- more that a step may be told


@pytest.mark.parametrize("flags", [[], [0, 1]])
def test_long_rope_is_said_of_every_sequence(decoder: _core.Decoder, flags: list[int]) -> None:
    batch = {name: np.array(values, np.int32) for name, values in GOOD.items()}
    if flags:
        with pytest.raises(ValueError, match="one entry per sequence"):
            decoder.step(**batch, long_rope=np.array(flags, np.int32))
    else:
        decoder.step(**batch, long_rope=np.array(flags, np.int32))


def test_a_step_without_logits_leaves_hidden_states(decoder: _core.Decoder) -> None:
    batch = {name: np.array(values, np.int32) for name, values in GOOD.items()}
    decoder.step(**batch)
    expected = decoder.hidden(0)
    assert expected.shape == (MODEL.n_embd,)
    decoder.step(**batch, wants_logits=False)
    assert np.array_equal(decoder.hidden(0), expected)
    with pytest.raises(ValueError, match="row of logits"):
        decoder.logits(0)
    for row in (-1, 1):
        with pytest.raises(ValueError, match="row of hidden"):
            decoder.hidden(row)
