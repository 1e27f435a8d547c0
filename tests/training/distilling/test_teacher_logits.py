"""What is kept of a teacher is its distribution, once, whatever is broken off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import EngineError, InvalidRequest
from madang.training.distilling import keep_teacher_logits
from madang.training.examples import Encoded

WORDS = 50


class Teacher:
    """Logits that depend on the token alone, in pieces of three; counts what it is asked."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.asked = 0
        self._fails_after = fails_after
        self.table = np.random.default_rng(1).normal(0, 3, (WORDS, WORDS)).astype(np.float32)

    def tokenize(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def logits(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        self.asked += 1
        if self._fails_after is not None and self.asked > self._fails_after:
            raise EngineError("The teacher is gone.")
        for begin in range(0, len(tokens), 3):
            yield self.table[list(tokens[begin : begin + 3])]


def items(n: int, length: int = 10) -> list[Encoded]:
    draws = np.random.default_rng(0)
    made = [draws.integers(0, WORDS, length).astype(np.int32) for _ in range(n)]
    return [Encoded(tokens, np.where(np.arange(length) < 4, -100, tokens).astype(np.int32)) for tokens in made]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_rows_are_the_distribution_of_labelled_tokens(tmp_path: Path, temperature: float) -> None:
    teacher, lesson = Teacher(), items(3)
    kept = keep_teacher_logits(tmp_path, teacher, lesson, teacher_name="t", n_top=5, temperature=temperature)
    for number, item in enumerate(lesson):
        rows = kept[number]
        assert rows.words.shape == (6, 5)  # positions 3 to 8 come before the labelled tokens 4 to 9
        full = np.exp(teacher.table[item.input_ids[3:9]].astype(np.float64) / temperature)
        top = np.take_along_axis(full, rows.words.astype(np.int64), 1)
        np.testing.assert_allclose(np.exp(rows.logits / temperature), top, rtol=1e-5)
        np.testing.assert_allclose(np.exp(rows.tail), full.sum(1) - top.sum(1), rtol=1e-4)
        assert (np.sort(full, 1)[:, -5:].sum(1) - top.sum(1) < 1e-6).all()


def test_with_all_words_nothing_is_left(tmp_path: Path) -> None:
    kept = keep_teacher_logits(tmp_path, Teacher(), items(1), teacher_name="t", n_top=WORDS)
    assert np.isneginf(kept[0].tail).all()


def test_it_is_computed_once_and_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    lesson = items(70)
    with pytest.raises(EngineError):
        keep_teacher_logits(tmp_path, Teacher(fails_after=40), lesson, teacher_name="t", n_top=4)
    rest = Teacher()
    kept = keep_teacher_logits(tmp_path, rest, lesson, teacher_name="t", n_top=4)
    assert rest.asked == 70 - 32
    again = Teacher(fails_after=0)
    same = keep_teacher_logits(tmp_path, again, lesson, teacher_name="t", n_top=4)
    for number in (0, 31, 32, 69):
        np.testing.assert_array_equal(kept[number].logits, same[number].logits)


def test_another_teacher_text_or_setting_is_refused(tmp_path: Path) -> None:
    lesson = items(2)
    keep_teacher_logits(tmp_path, Teacher(), lesson, teacher_name="t", n_top=4)
    with pytest.raises(InvalidRequest, match="teacher"):
        keep_teacher_logits(tmp_path, Teacher(), lesson, teacher_name="other", n_top=4)
    with pytest.raises(InvalidRequest, match="n_top"):
        keep_teacher_logits(tmp_path, Teacher(), lesson, teacher_name="t", n_top=5)
    with pytest.raises(InvalidRequest, match="sequences"):
        keep_teacher_logits(tmp_path, Teacher(), lesson[:1], teacher_name="t", n_top=4)


def test_too_small_a_vocabulary_and_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="50 words"):
        keep_teacher_logits(tmp_path / "a", Teacher(), items(1), teacher_name="t", n_top=51)
    broken = Teacher()
    broken.table[:] = np.nan
    with pytest.raises(EngineError, match="finite"):
        keep_teacher_logits(tmp_path / "b", broken, items(1), teacher_name="t", n_top=4)
    assert not list((tmp_path / "b").glob("*.npy"))
