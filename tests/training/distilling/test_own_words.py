"""On-policy distillation: what a student writes itself is drawn, corrected, and learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

pytest.importorskip("transformers")

from safetensors.numpy import load_file

from madang.core.errors import InvalidRequest
from madang.training.distilling import DistilConfig, TeacherLogits, distil, keep_teacher_logits
from madang.training.distilling.losses import LossParts
from madang.training.distilling.student import Student
from madang.training.examples import Encoded
from tests.training.tiny import SHAPE, tiny_folder

WORDS, LENGTH = SHAPE.vocab_size, 12
CONFIG = DistilConfig(soft_weight=1.0, learning_rate=1e-2, batch_sequences=4, checkpoint_s=0, on_policy=0.5)


class Teacher:
    """Whatever is read, it goes on with twenty words that nobody else has written."""

    def __init__(self) -> None:
        draws = np.random.default_rng(1)
        self.table = draws.normal(0, 1, (WORDS, WORDS)).astype(np.float32)
        self.table[:, 100:120] += draws.normal(6, 3, (WORDS, 20))

    def tokenize(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def logits(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        yield self.table[list(tokens)]


def lesson(n: int, seed: int = 0) -> list[Encoded]:
    """Sequences of other words than the teacher's."""
    made = np.random.default_rng(seed).integers(10, 30, (n, LENGTH)).astype(np.int32)
    return [Encoded(tokens, tokens.copy()) for tokens in made]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("own_words"))


@pytest.fixture
def kept(tmp_path: Path) -> TeacherLogits:
    return keep_teacher_logits(tmp_path / "teacher", Teacher(), lesson(80), teacher_name="t", n_top=64)


def apart_in_own_words(folder: Path, kept: TeacherLogits) -> float:
    """KL from the teacher, per token that the student itself writes."""
    student = Student(folder)
    items = [student.in_own_words(item, (), (9, number)) for number, item in enumerate(lesson(24, seed=5))]
    with torch.no_grad():
        found: LossParts = student.parts(items, [kept.score(item) for item in items], 1.0)
    return float(found.kl) / (len(items) * LENGTH / 2)


def test_prompts_stay_and_what_is_drawn_is_labelled(base: Path) -> None:
    student, item = Student(base), lesson(1)[0]
    drawn = student.in_own_words(item, (), (0,))
    assert drawn.input_ids[:6].tolist() == item.input_ids[:6].tolist()  # of a text, the first half
    assert drawn.labels.tolist() == [-100] * 6 + drawn.input_ids[6:].tolist()
    assert len(drawn.input_ids) == LENGTH
    ended = student.in_own_words(item, {int(drawn.input_ids[8])}, (0,))
    assert ended.input_ids.tolist() == drawn.input_ids[:9].tolist()
    answer = Encoded(item.input_ids, np.where(np.arange(LENGTH) < 9, -100, item.labels).astype(np.int32))
    assert student.in_own_words(answer, (), (0,)).input_ids[:9].tolist() == item.input_ids[:9].tolist()
    others = [student.in_own_words(item, (), (seed,)).input_ids.tolist() for seed in range(3)]
    assert others[0] == drawn.input_ids.tolist()
    assert others[1] != others[0] != others[2]


def test_where_it_goes_itself_a_student_learns_more_from_its_own_words(
    base: Path, kept: TeacherLogits, tmp_path: Path
) -> None:
    apart = {}
    for name, share in (("others'", 0.0), ("own", 0.5)):
        told: list[dict[str, Any]] = []
        config = replace(CONFIG, on_policy=share, steps=30, checkpoint_s=1e9)
        distil(base, tmp_path / name, lesson(80), kept, config, run_folder=tmp_path / f"run {name}", tell=told.append)
        assert sum(line["on_policy"] for line in told) == 30 * share
        apart[name] = apart_in_own_words(tmp_path / name, kept)
    assert apart["own"] < 0.85 * apart["others'"] < 0.85 * 0.7 * apart_in_own_words(base, kept)


def test_what_is_drawn_is_the_same_when_a_run_goes_on(base: Path, kept: TeacherLogits, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=4, beta=0.5, on_policy=0.75)

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distil(base, tmp_path / "broken", lesson(80), kept, config, run_folder=tmp_path / "run", tell=stop)
    done = distil(base, tmp_path / "broken", lesson(80), kept, config, run_folder=tmp_path / "run")
    whole = distil(base, tmp_path / "whole", lesson(80), kept, config, run_folder=tmp_path / "other")
    assert (done.loss, done.tokens, done.labelled_tokens) == (whole.loss, whole.tokens, whole.labelled_tokens)
    for name, weight in load_file(tmp_path / "whole" / "model.safetensors").items():
        np.testing.assert_array_equal(load_file(tmp_path / "broken" / "model.safetensors")[name], weight)


def test_own_words_without_a_teacher_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="needs a teacher"):
        distil(base, tmp_path / "a", lesson(4), None, replace(CONFIG, soft_weight=0.0), run_folder=tmp_path / "run")
    for wrong in ({"on_policy": 1.5}, {"beta": -0.1}):
        with pytest.raises(InvalidRequest):
            replace(CONFIG, **wrong)
