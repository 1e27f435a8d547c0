"""The run: sequences in a fixed order, one optimizer step for each batch of them; nothing that depends on the clock.

Optimizer, checkpoints and journal are those of every training. With ``soft_weight`` 0 it is plain fine-tuning, without
a teacher: what distillation has to beat on the same tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from madang.core.errors import InvalidRequest
from madang.formats.tokenizers import tokenizer_from_json
from madang.training.batching import order
from madang.training.checkpoints import Checkpoints
from madang.training.distilling.losses import weighted
from madang.training.distilling.student import Student
from madang.training.distilling.teacher_logits import TeacherLogits, TeacherRows, digest_items, labelled
from madang.training.examples.encoding import Encoded
from madang.training.optimizer import Optimizer
from madang.training.runs import RunFolder

_BETAS: Final = (0.9, 0.95)


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """How a student learns.

    soft_weight       of the teacher's distribution, 0 to 1; the text has the rest (losses.py)
    beta              which divergence from the teacher: 0 forward KL, 1 reverse KL, between them Jensen-Shannon
    on_policy         share of the steps, spread evenly, on what the student writes itself; the teacher alone has a say
    batch_sequences   per step
    steps             None goes through the sequences once
    warmup_share      of the steps, in which the rate rises to ``learning_rate``; it falls to a tenth of it in the end
    checkpoint_s      seconds between checkpoints
    """

    soft_weight: float = 0.5
    temperature: float = 1.0
    beta: float = 0.0
    on_policy: float = 0.0
    learning_rate: float = 2e-4
    batch_sequences: int = 2
    steps: int | None = None
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    seed: int = 0
    checkpoint_s: float = 300.0
    precision: str | None = None

    def __post_init__(self) -> None:
        bounds = {
            "soft_weight": 0 <= self.soft_weight <= 1,
            "temperature": 0 < self.temperature < math.inf,
            "beta": 0 <= self.beta <= 1,
            "on_policy": 0 <= self.on_policy <= 1,
            "learning_rate": 0 < self.learning_rate < 1,
            "batch_sequences": 1 <= self.batch_sequences <= 65_536,
            "steps": self.steps is None or self.steps >= 1,
            "warmup_share": 0 <= self.warmup_share < 1,
            "weight_decay": 0 <= self.weight_decay < 1,
            "precision": self.precision in (None, "float32", "bfloat16"),
        }
        for name, holds in bounds.items():
            if not holds:
                raise InvalidRequest(f"{name} cannot be {getattr(self, name)}.", param=name)


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came of a run; ``tokens`` were read, ``labelled_tokens`` of them learnt from, in ``seconds`` of work."""

    step: int = 0
    tokens: int = 0
    labelled_tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0


def distil(
    student: Path,
    target: Path,
    items: Sequence[Encoded],
    teacher: TeacherLogits | None,
    config: DistilConfig,
    *,
    run_folder: Path,
    n_threads: int | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda step: None,
) -> Distilled:
    """Teach the model in the folder ``student``, and write it as the folder ``target``.

    run_folder   its log and checkpoints; a run that ended there before its last step goes on
    tell         is told each step's line of the log

    Raises InvalidRequest when settings, teacher and sequences do not belong together, TrainingFailed when the loss is
    no number (the last good checkpoint stays), and what loading and writing raise.
    """
    _check(items, teacher, config)
    run = RunFolder(run_folder)
    _claim(run, _facts(student, items, teacher, config))
    ends = tokenizer_from_json(student).end_ids if config.on_policy > 0 else ()
    learner = Student(student, precision=config.precision, n_threads=n_threads)
    lesson = _Lesson(items, teacher if config.soft_weight > 0 else None, config, ends)
    done = _Loop(learner, lesson, run).run(tell)
    learner.save(target, {"distillation.json": {"config": asdict(config), **asdict(done)}})
    return done


def _check(items: Sequence[Encoded], teacher: TeacherLogits | None, config: DistilConfig) -> None:
    if not any(len(labelled(item)) for item in items):
        raise InvalidRequest("There is nothing to learn: no sequence has a token with a label.", param="data")
    if config.soft_weight > 0 and teacher is None:
        raise InvalidRequest(
            "A soft weight above 0 needs a teacher.",
            param="soft_weight",
            hint="Give --teacher MODEL, or --soft-weight 0.",
        )
    if config.on_policy > 0 and config.soft_weight == 0:
        raise InvalidRequest("What a student writes itself needs a teacher.", param="on_policy")
    if teacher is not None and teacher.temperature != config.temperature:
        raise InvalidRequest(
            f"The teacher's logits were kept for temperature {teacher.temperature:g}, not {config.temperature:g}.",
            param="temperature",
        )


def _facts(
    student: Path, items: Sequence[Encoded], teacher: TeacherLogits | None, config: DistilConfig
) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    settings = {key: value for key, value in asdict(config).items() if key != "checkpoint_s"}
    return {
        "student": str(student.resolve()),
        "sequences_sha256": digest_items(items),
        "teacher": None if teacher is None else [teacher.name, teacher.n_top],
        **settings,
    }


def _claim(run: RunFolder, facts: dict[str, Any]) -> None:
    """The folder is this run's, or nobody has come as far as a checkpoint in it."""
    if run.read("run") not in (None, facts) and Checkpoints(run.path, 0).last() is not None:
        raise InvalidRequest(
            f"{run.path} holds checkpoints of another run: other settings, data, teacher or student.",
            param="run",
            hint="Name another folder, or remove this one.",
        )
    run.write("run", facts)


class _Lesson:
    """What is learnt, and how; sequences without a label teach nothing."""

    def __init__(
        self, items: Sequence[Encoded], teacher: TeacherLogits | None, config: DistilConfig, ends: Collection[int]
    ) -> None:
        self.items, self.teacher, self.config, self._ends = items, teacher, config, ends
        self._numbers = np.array([number for number, item in enumerate(items) if len(labelled(item))])
        self._steps_per_epoch = -(-len(self._numbers) // config.batch_sequences)
        self.n_steps = self._steps_per_epoch if config.steps is None else config.steps

    def batches(self, done: int) -> Iterator[list[int]]:
        """Numbers of sequences, from step ``done`` on: each epoch in an order of its own that only the seed decides."""
        size = self.config.batch_sequences
        for step in range(done, self.n_steps):
            epoch, place = divmod(step, self._steps_per_epoch)
            shuffled = self._numbers[order(len(self._numbers), self.config.seed, epoch)]
            yield shuffled[place * size : (place + 1) * size].tolist()

    def is_on_policy(self, step: int) -> bool:
        """Whether the step after ``step`` is on the student's own words."""
        before, after = (int(self.config.on_policy * n + 1e-9) for n in (step, step + 1))
        return after > before

    def part(self, student: Student, step: int, batch: Sequence[int]) -> _Part:
        """What the step after ``step`` learns from; what is drawn for it depends on nothing but the student."""
        items = [self.items[number] for number in batch]
        if self.teacher is None:
            return _Part(items, None, 0.0)
        if not self.is_on_policy(step):
            return _Part(items, [self.teacher[number] for number in batch], self.config.soft_weight)
        seeds = [(self.config.seed, step, place) for place in range(len(batch))]
        own = [student.in_own_words(item, self._ends, seed) for item, seed in zip(items, seeds, strict=True)]
        return _Part(own, [self.teacher.score(item) for item in own], 1.0)


class _Part(NamedTuple):
    """Sequences, what the teacher says of them, and how much that counts."""

    items: list[Encoded]
    teacher: list[TeacherRows] | None
    soft_weight: float


class _Loop:
    """Read :meth:`run` first."""

    def __init__(self, student: Student, lesson: _Lesson, run: RunFolder) -> None:
        self._student, self._lesson = student, lesson
        self._journal = run.journal()
        self._checkpoints = Checkpoints(run.path, 3 * student.size_bytes)  # weights and two moments
        self._optimizer = Optimizer(
            model=student.causal,
            n_steps=lesson.n_steps,
            learning_rate=lesson.config.learning_rate,
            warmup_share=lesson.config.warmup_share,
            weight_decay=lesson.config.weight_decay,
            betas=_BETAS,
        )

    def run(self, tell: Callable[[dict[str, Any]], None]) -> Distilled:
        """All steps that are left."""
        model, adamw, last = self._student.causal, self._optimizer.adamw, self._checkpoints.last()
        done = Distilled() if last is None else Distilled(**self._checkpoints.load(last, model, adamw))
        self._journal.cut(done.step)
        kept_at = time.monotonic()
        for batch in self._lesson.batches(done.step):
            done, line = self._step(done, batch)
            self._journal.add(line)
            tell(line)
            if time.monotonic() - kept_at > self._lesson.config.checkpoint_s or done.step == self._lesson.n_steps:
                state = {key: value for key, value in asdict(done).items() if key != "step"}
                self._checkpoints.save(done.step, model, adamw, state)
                kept_at = time.monotonic()
        return done

    def _step(self, done: Distilled, batch: list[int]) -> tuple[Distilled, dict[str, Any]]:
        """What is done after it, and its line of the log."""
        begun, lesson, config = time.perf_counter(), self._lesson, self._lesson.config
        items, teacher, soft_weight = lesson.part(self._student, done.step, batch)
        n_tokens = sum(len(item.input_ids) for item in items)
        n_labelled = sum(len(labelled(item)) for item in items)
        parts = self._student.parts(items, teacher, config.temperature, config.beta)
        loss = weighted(parts, n_labelled, soft_weight, config.temperature)
        loss.backward()
        mean = float(loss.detach())
        rate, norm = self._optimizer.step(done.step, mean, self._checkpoints)
        seconds = time.perf_counter() - begun
        after = Distilled(
            done.step + 1, done.tokens + n_tokens, done.labelled_tokens + n_labelled, done.seconds + seconds, mean
        )
        line = {
            "step": after.step,
            "steps": lesson.n_steps,
            "on_policy": lesson.is_on_policy(done.step),
            "loss": mean,
            "kl": float(parts.kl.detach()) / n_labelled,
            "cross_entropy": float(parts.cross_entropy.detach()) / n_labelled,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": after.tokens,
            "tokens_s": n_tokens / seconds,
        }
        return after, line
