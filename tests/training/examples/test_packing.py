"""Sequences are full, whole, and know where their items begin."""

from __future__ import annotations

import numpy as np
import pytest

from madang.core.errors import InvalidRequest
from madang.training.examples import NO_LOSS, Encoded, pack


def item(n: int, value: int) -> Encoded:
    labels = np.full(n, value, np.int32)
    labels[0] = NO_LOSS
    return Encoded(np.full(n, value, np.int32), labels)


def test_every_token_once_with_positions_of_its_own() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    packed = pack([item(n, i) for i, n in enumerate(lengths)], 64)
    found: dict[int, int] = {}
    for sequence in packed:
        n = len(sequence.input_ids)
        assert n <= 64 and n == sum(sequence.segment_lengths) == len(sequence.labels) == len(sequence.position_ids)
        begin = 0
        for length in sequence.segment_lengths:
            part = slice(begin, begin + length)
            (value,) = set(sequence.input_ids[part].tolist())
            found[value] = length
            assert sequence.position_ids[part].tolist() == list(range(length))
            assert sequence.labels[begin] == NO_LOSS  # nothing may be predicted from the item before
            begin += length
    assert found == dict(enumerate(lengths))


def test_little_is_left_empty() -> None:
    lengths = np.random.default_rng(1).integers(1, 60, 500).tolist()
    packed = pack([item(n, 1) for n in lengths], 256)
    assert len(packed) <= sum(lengths) / 256 * 1.02 + 1


def test_best_fit_takes_the_fullest_that_has_room() -> None:
    assert sorted(p.segment_lengths for p in pack([item(n, 1) for n in (6, 5, 4, 3, 2)], 10)) == [(5, 3, 2), (6, 4)]


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="11 tokens does not fit into sequences of 10"):
        pack([item(11, 1)], 10)
    assert pack([], 10) == []
