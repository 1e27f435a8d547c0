"""Which examples a step holds, and where they lie in rows."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from madang.training.batching import all_steps, pack_row, pad_row, rows_of, steps_of_epoch
from madang.training.examples import Encoded
from madang.training.examples.encoding import NO_LOSS


def item(prompt: list[int], answer: list[int]) -> Encoded:
    return Encoded(np.array(prompt + answer, np.int32), np.array([NO_LOSS] * len(prompt) + answer, np.int32))


def test_an_epoch_has_each_example_once_and_the_same_order_whenever_asked() -> None:
    lengths = [5, 9, 3, 7, 20, 4]
    steps = list(steps_of_epoch(lengths, 1, 0, 12))
    assert sorted(number for step in steps for number in step) == list(range(6))
    assert steps == list(steps_of_epoch(lengths, 1, 0, 12))
    assert steps != list(steps_of_epoch(lengths, 1, 1, 12))
    assert all(len(step) == 1 or sum(lengths[number] for number in step) <= 12 for step in steps)


def test_epochs_follow_one_another() -> None:
    assert [epoch for epoch, _ in islice(all_steps([4, 4], 0, 4), 5)] == [0, 0, 1, 1, 2]


def test_what_all_begin_with_stands_once() -> None:
    row = pack_row([item([1, 2, 3, 4], [5, 6]), item([1, 2, 3, 7], [8])])
    assert row.input_ids[0, :8].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert row.position_ids is not None
    assert row.position_ids[0, :8].tolist() == [0, 1, 2, 3, 4, 5, 3, 4]
    assert row.targets.tolist() == [5, 6, 8]
    assert row.predictors.tolist() == [3, 4, 6]
    assert row.owners.tolist() == [0, 0, 1]
    assert row.n_tokens == 11
    allowed = row.allowed[0, 0]
    assert allowed[7].tolist() == [True, True, True, False, False, False, True, True] + [False] * 24


def test_rows_of_nearly_the_same_length_are_as_long_as_each_other() -> None:
    rows = [pack_row([item([1, 2, 3], list(range(4, 4 + n)))]) for n in (1, 29, 30)]
    assert [row.input_ids.shape for row in rows] == [(1, 32), (1, 32), (1, 64)]
    allowed = rows[0].allowed[0, 0]
    assert not allowed[:4, 4:].any()
    assert allowed.any(axis=1).all()  # a place that sees nothing would be no number


def test_answers_that_begin_behind_the_shared_part_are_predicted_by_its_end() -> None:
    row = pack_row([item([1, 2], [3, 4]), item([1, 2], [5])])
    assert row.input_ids[0, :5].tolist() == [1, 2, 3, 4, 5]
    assert row.predictors.tolist() == [1, 2, 1]
    assert row.targets.tolist() == [3, 4, 5]


def test_a_text_learns_all_but_its_first_token() -> None:
    row = pack_row([Encoded(np.array([4, 5, 6], np.int32), np.array([4, 5, 6], np.int32))])
    assert row.targets.tolist() == [5, 6]
    assert row.predictors.tolist() == [0, 1]


def test_padding_is_not_seen() -> None:
    row = pad_row([item([1], [2, 3]), item([1], [2])])
    assert row.allowed.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert row.targets.tolist() == [2, 3, 2]
    assert row.predictors.tolist() == [0, 1, 3]


@pytest.mark.parametrize("packed", [True, False])
def test_rows_hold_all_examples_and_no_more_than_fits(packed: bool) -> None:
    items = [item([1, 2], list(range(3, 3 + n))) for n in (1, 9, 4, 2, 30, 5)]
    rows = rows_of(items, 32, packed=packed)
    assert sorted(number for _, numbers in rows for number in numbers) == list(range(6))
    for row, numbers in rows:
        assert row.n_examples == len(numbers)
        assert row.input_ids.size <= 32 or len(numbers) == 1
