"""A token's logits are the same bits whatever is computed with it, however, and wherever its cache pages lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from madang.formats.tensors import TensorType
from tests.native.bare import BareModel, bare_decoder
from tests.parity.running import PAGE_TOKENS, Logits, read

SMALL = BareModel(n_heads=6, n_kv_heads=2, windows=(0, 20), vocab_size=45)
MANY_HEADS = BareModel(n_heads=12, n_kv_heads=1, head_dim=8, n_embd=64, n_ff=64, windows=(5, 0))
WIDE = BareModel(n_embd=256, n_heads=4, n_kv_heads=4, head_dim=64, n_ff=256, tied=False)
SOME_GROUPS = BareModel(n_heads=6, n_kv_heads=2, head_dim=40, windows=(0, 20))
MODELS = {
    "F32": (SMALL, TensorType.F32),
    "int8 cache": (SOME_GROUPS, TensorType.F32, "int8"),
    "F16": (MANY_HEADS, TensorType.F16),
    "BF16": (SMALL, TensorType.BF16),
    "Q8_0": (MANY_HEADS, TensorType.Q8_0),
    "Q4_0": (WIDE, TensorType.Q4_0),
    "Q4_K": (WIDE, TensorType.Q4_K),
    "Q6_K": (WIDE, TensorType.Q6_K),
    "Q2_K": (WIDE, TensorType.Q2_K),
    "Q3_K": (WIDE, TensorType.Q3_K),
    "TQ2_0": (WIDE, TensorType.TQ2_0),
    "MXFP4": (SMALL, TensorType.MXFP4),
    "IQ4_NL": (MANY_HEADS, TensorType.IQ4_NL),
    "IQ4_XS": (WIDE, TensorType.IQ4_XS),
    "IQ2_XXS": (WIDE, TensorType.IQ2_XXS),
    "IQ2_XS": (WIDE, TensorType.IQ2_XS),
}
CASES = [(name, isa) for name in MODELS for isa in _core.available_isas()]
MAX_LENGTH = 70

Ints = npt.NDArray[np.int32]


def some_tokens(n: int, seed: int = 0) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, 40, n).tolist()
    return tokens


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def decoder(request: pytest.FixtureRequest) -> _core.Decoder:
    """Every kind of product on every instruction set."""
    name, isa = request.param
    return bare_decoder(*MODELS[name], isa=isa)


@dataclass(frozen=True)
class Piece:
    """Tokens ``begin`` to ``end`` of a sequence."""

    sequence: int
    begin: int
    end: int


def step(decoder: _core.Decoder, texts: Sequence[Sequence[int]], pieces: Sequence[Piece], tables: Ints) -> Logits:
    """One step over the pieces, with the logits of every token."""
    tokens = [token for piece in pieces for token in texts[piece.sequence][piece.begin : piece.end]]
    positions = [position for piece in pieces for position in range(piece.begin, piece.end)]
    sequences = [piece.sequence for piece in pieces for _ in range(piece.begin, piece.end)]
    n = len(tokens)
    batch = (np.array(values, np.int32) for values in (tokens, positions, sequences))
    decoder.step(*batch, tables, np.arange(n, dtype=np.int32))
    return np.stack([decoder.logits(row) for row in range(n)])


def scattered_tables(texts: Sequence[Sequence[int]], seed: int) -> Ints:
    """Page tables whose pages lie in random order, and beside those of other sequences; unused entries are -1."""
    n_pages = [-(-len(text) // PAGE_TOKENS) for text in texts]
    pages = iter(np.random.default_rng(seed).permutation(sum(n_pages) + 3).tolist())
    tables = np.full((len(texts), max(n_pages)), -1, np.int32)
    for table, n in zip(tables, n_pages, strict=True):
        table[:n] = [next(pages) for _ in range(n)]
    return tables


@dataclass(frozen=True)
class Reading:
    """A sequence of ``n_tokens`` that is read in chunks, one in each step, and the rest in one more."""

    n_tokens: int
    chunks: list[int]

    def pieces(self, sequence: int, n_steps: int) -> list[Piece]:
        """What is read in each step, perhaps nothing."""
        sizes = [*self.chunks, *[0] * (n_steps - 1 - len(self.chunks)), self.n_tokens]
        ends = np.minimum(np.cumsum(sizes), self.n_tokens).tolist()
        return [Piece(sequence, begin, end) for begin, end in pairwise([0, *ends])]


readings = st.builds(Reading, st.integers(1, MAX_LENGTH), st.lists(st.integers(0, 24), max_size=4))


@given(st.lists(readings, min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_alone_or_together_in_any_pieces_on_any_pages(
    decoder: _core.Decoder, sequences: list[Reading], chance: Random
) -> None:
    texts = [some_tokens(reading.n_tokens, seed) for seed, reading in enumerate(sequences)]
    alone = [read(decoder, text) for text in texts]
    tables = scattered_tables(texts, chance.randrange(100))
    decoder.reserve_pages(int(tables.max()) + 1)
    n_steps = 1 + max(len(reading.chunks) for reading in sequences)
    for together in zip(*(reading.pieces(i, n_steps) for i, reading in enumerate(sequences)), strict=True):
        pieces = [piece for piece in together if piece.begin < piece.end]
        chance.shuffle(pieces)
        if pieces:
            logits = step(decoder, texts, pieces, tables)
            assert np.array_equal(logits, np.concatenate([alone[p.sequence][p.begin : p.end] for p in pieces]))


def test_among_thirty_others(decoder: _core.Decoder) -> None:
    texts = [some_tokens(20 + seed, seed) for seed in range(31)]
    alone = [read(decoder, text) for text in texts]
    tables = scattered_tables(texts, 1)
    decoder.reserve_pages(int(tables.max()) + 1)
    step(decoder, texts, [Piece(s, 0, len(text) - 1) for s, text in enumerate(texts)], tables)
    last = step(decoder, texts, [Piece(s, len(text) - 1, len(text)) for s, text in enumerate(texts)], tables)
    assert np.array_equal(last, np.stack([logits[-1] for logits in alone]))


@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_threads(name: str) -> None:
    text = some_tokens(300)
    one = read(bare_decoder(*MODELS[name], n_threads=1), text, (100, 1, 1))
    for n_threads in (2, 3):
        assert np.array_equal(read(bare_decoder(*MODELS[name], n_threads=n_threads), text, (100, 1, 1)), one)


@pytest.mark.parametrize("name", ["F32", "int8 cache", "F16"])
@pytest.mark.parametrize("isa", _core.available_isas())
def test_threads_that_share_a_few_tokens_which_see_far_back(name: str, isa: str) -> None:
    text, chunks = some_tokens(1400), (1300, 1, 2, 3, 1)
    one = read(bare_decoder(*MODELS[name], isa=isa, n_threads=1), text, chunks)
    for n_threads in (2, 3):
        assert np.array_equal(read(bare_decoder(*MODELS[name], isa=isa, n_threads=n_threads), text, chunks), one)


def test_far_apart_in_the_cache(decoder: _core.Decoder) -> None:
    text = some_tokens(600)
    whole = read(decoder, text)
    pages = np.random.default_rng(2).permutation(3 * len(text) // PAGE_TOKENS).tolist()[: -(-len(text) // PAGE_TOKENS)]
    assert np.array_equal(read(decoder, text, (1, 254, 2, 16), pages=pages), whole)


def test_pages_shared_by_sequences_that_begin_alike(decoder: _core.Decoder) -> None:
    common = some_tokens(2 * PAGE_TOKENS)
    texts = [common + some_tokens(9, 5), common + some_tokens(30, 6)]
    alone = [read(decoder, text) for text in texts]
    tables = np.array([[4, 2, 0, -1], [4, 2, 3, 1]], np.int32)
    decoder.reserve_pages(5)
    step(decoder, texts, [Piece(0, 0, len(common))], tables)
    rest = [Piece(sequence, len(common), len(text)) for sequence, text in enumerate(texts)]
    together = step(decoder, texts, rest, tables)
    assert np.array_equal(together, np.concatenate([logits[len(common) :] for logits in alone]))


def test_one_sequence_in_two_places_of_a_batch(decoder: _core.Decoder) -> None:
    texts = [some_tokens(30, 1), some_tokens(25, 2)]
    alone = [read(decoder, text) for text in texts]
    pieces = [Piece(0, 0, 12), Piece(1, 0, 25), Piece(0, 12, 30)]
    together = step(decoder, texts, pieces, np.array([[0, 1], [2, 3]], np.int32))
    assert np.array_equal(together, np.concatenate([alone[p.sequence][p.begin : p.end] for p in pieces]))


def test_what_lay_in_a_page_before_leaves_no_trace(decoder: _core.Decoder) -> None:
    text = some_tokens(21)
    fresh = read(decoder, text, pages=[7, 8])
    read(decoder, some_tokens(32, 9), pages=[8, 7])
    assert np.array_equal(read(decoder, text, (5, 1), pages=[7, 8]), fresh)


def test_growing_keeps_what_is_there(decoder: _core.Decoder) -> None:
    text = some_tokens(40)
    whole = read(decoder, text)
    read(decoder, text[:25])
    decoder.reserve_pages(decoder.n_pages + 5000)
    assert np.array_equal(read(decoder, text[25:], start=25), whole[25:])


def test_a_step_back_reads_again_from_there(decoder: _core.Decoder) -> None:
    text = some_tokens(40)
    whole = read(decoder, text)
    read(decoder, some_tokens(15, 3), start=25)  # another ending
    assert np.array_equal(read(decoder, text[25:], start=25), whole[25:])


def test_outputs_in_any_order_and_number(decoder: _core.Decoder) -> None:
    text = some_tokens(20)
    whole = read(decoder, text)
    arrays = np.array(text, np.int32), np.arange(20, dtype=np.int32), np.zeros(20, np.int32)
    table = np.arange(2, dtype=np.int32)[None]
    wanted = [19, 0, 7, 7]
    decoder.step(*arrays, table, np.array(wanted, np.int32))
    assert np.array_equal(np.stack([decoder.logits(row) for row in range(4)]), whole[wanted])
    decoder.step(*arrays, table, np.empty(0, np.int32))
    assert np.array_equal(read(decoder, text[10:], start=10), whole[10:])
