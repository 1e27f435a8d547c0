"""Students of a few thousand weights: they learn, go on exactly where they ended, and are written whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file

from madang.core.errors import InvalidRequest, TrainingFailed
from madang.formats.safetensors import read_safetensors
from madang.native import MutableModel
from madang.quantization.divergence import measure
from madang.training.distilling import DistilConfig, distil, keep_teacher_logits
from madang.training.examples import Encoded
from madang.training.pruning import Cut, write_cut
from tests.training.tiny import sequences, tiny_folder

CONFIG = DistilConfig(soft_weight=1.0, learning_rate=3e-3, batch_sequences=4, checkpoint_s=0)


class Stopped(Exception):
    """As when a process ends."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("distilling"), tied=True)


@pytest.fixture
def student(base: Path, tmp_path: Path) -> Path:
    write_cut(base, tmp_path / "student", Cut(layers=(0, 2, 3)))
    return tmp_path / "student"


def test_a_student_comes_nearer_to_its_teacher(base: Path, student: Path, tmp_path: Path) -> None:
    teacher, lesson = MutableModel(base, 1), sequences(160)
    kept = keep_teacher_logits(tmp_path / "teacher", teacher, lesson, teacher_name="base", n_top=64)
    told: list[dict[str, float]] = []
    done = distil(
        student,
        tmp_path / "taught",
        lesson,
        kept,
        replace(CONFIG, steps=40, checkpoint_s=1e9),
        run_folder=tmp_path / "run",
        tell=told.append,
    )
    assert (done.step, done.tokens, done.labelled_tokens) == (40, 40 * 4 * 24, 40 * 4 * 23)
    assert told[-1]["kl"] < 0.8 * told[0]["kl"]
    others = [item.input_ids.tolist() for item in sequences(4, seed=9)]
    before, after = (measure(teacher, MutableModel(path, 1), others).mean for path in (student, tmp_path / "taught"))
    assert after < 0.85 * before
    assert "lm_head.weight" not in read_safetensors(tmp_path / "taught")
    assert (tmp_path / "taught" / "tokenizer.json").read_bytes() == (student / "tokenizer.json").read_bytes()


def test_without_a_soft_weight_it_is_plain_fine_tuning(student: Path, tmp_path: Path) -> None:
    lesson = [sequences(1)[0]] * 4
    told: list[dict[str, float]] = []
    config = replace(CONFIG, soft_weight=0.0, steps=10)
    distil(student, tmp_path / "taught", lesson, None, config, run_folder=tmp_path / "run", tell=told.append)
    assert told[-1]["loss"] == pytest.approx(told[-1]["cross_entropy"])
    assert told[-1]["loss"] < told[0]["loss"] - 1
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))


def test_the_loss_is_of_labelled_tokens_alone_and_padding_changes_nothing(student: Path, tmp_path: Path) -> None:
    """One long and one short sequence together, as each alone."""
    long, short = sequences(1, 24)[0], sequences(1, 9, seed=1)[0]
    short = Encoded(short.input_ids, np.where(np.arange(9) < 5, -100, short.labels).astype(np.int32))

    def first_loss(name: str, items: list[Encoded]) -> float:
        told: list[dict[str, float]] = []
        config = replace(CONFIG, soft_weight=0.0, steps=1)
        distil(student, tmp_path / name, items, None, config, run_folder=tmp_path / f"run-{name}", tell=told.append)
        return told[0]["loss"]

    together = first_loss("both", [long, short])
    alone = (23 * first_loss("long", [long]) + 4 * first_loss("short", [short])) / 27
    assert together == pytest.approx(alone, rel=1e-4)


def test_a_run_that_was_broken_off_ends_as_if_it_had_not(student: Path, tmp_path: Path) -> None:
    lesson, config = sequences(8), replace(CONFIG, soft_weight=0.0, steps=6)

    def stop(line: dict[str, float]) -> None:
        if line["step"] == 4:
            raise Stopped

    with pytest.raises(Stopped):
        distil(student, tmp_path / "broken", lesson, None, config, run_folder=tmp_path / "run", tell=stop)
    assert not (tmp_path / "broken").exists()
    told: list[dict[str, float]] = []
    done = distil(student, tmp_path / "broken", lesson, None, config, run_folder=tmp_path / "run", tell=told.append)
    assert told[0]["step"] == 4  # the step that was not kept is done again
    whole = distil(student, tmp_path / "whole", lesson, None, config, run_folder=tmp_path / "other")
    assert (done.loss, done.tokens) == (whole.loss, whole.tokens)
    for name, weight in load_file(tmp_path / "whole" / "model.safetensors").items():
        np.testing.assert_array_equal(load_file(tmp_path / "broken" / "model.safetensors")[name], weight)


def test_checkpoints_of_another_run_are_refused(student: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, soft_weight=0.0, steps=1)
    distil(student, tmp_path / "one", sequences(4), None, config, run_folder=tmp_path / "run")
    with pytest.raises(InvalidRequest, match="another run"):
        distil(student, tmp_path / "two", sequences(4, seed=5), None, config, run_folder=tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(student: Path, tmp_path: Path) -> None:
    lesson, config = sequences(8), replace(CONFIG, soft_weight=0.0, steps=4)

    def stop(line: dict[str, float]) -> None:
        if line["step"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        distil(student, tmp_path / "taught", lesson, None, config, run_folder=tmp_path / "run", tell=stop)
    [kept] = (tmp_path / "run" / "checkpoints").iterdir()
    weights = load_file(kept / "weights.safetensors")
    weights["model.norm.weight"][:] = np.inf
    save_file(weights, kept / "weights.safetensors")
    with pytest.raises(TrainingFailed, match=f"no finite number; the last good checkpoint is .*{kept.name}"):
        distil(student, tmp_path / "taught", lesson, None, config, run_folder=tmp_path / "run")
    assert [one.name for one in (tmp_path / "run" / "checkpoints").iterdir()] == [kept.name]
    assert not (tmp_path / "taught").exists()


def test_what_does_not_belong_together_is_refused(base: Path, student: Path, tmp_path: Path) -> None:
    lesson = sequences(2)
    with pytest.raises(InvalidRequest, match="teacher"):
        distil(student, tmp_path / "a", lesson, None, CONFIG, run_folder=tmp_path / "run")
    unlabelled = [Encoded(item.input_ids, np.full_like(item.labels, -100)) for item in lesson]
    with pytest.raises(InvalidRequest, match="nothing to learn"):
        distil(student, tmp_path / "a", unlabelled, None, replace(CONFIG, soft_weight=0.0), run_folder=tmp_path / "run")
    kept = keep_teacher_logits(tmp_path / "teacher", MutableModel(base, 1), lesson, teacher_name="base", n_top=4)
    with pytest.raises(InvalidRequest, match="temperature"):
        distil(student, tmp_path / "a", lesson, kept, replace(CONFIG, temperature=2.0), run_folder=tmp_path / "run")
    for wrong in ({"soft_weight": 1.5}, {"temperature": 0.0}, {"learning_rate": 1.0}, {"precision": "int8"}):
        with pytest.raises(InvalidRequest):
            replace(CONFIG, **wrong)
