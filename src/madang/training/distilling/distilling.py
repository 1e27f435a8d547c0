"""The run: sequences in a fixed order, AdamW, warm-up and cosine, checkpoints; nothing that depends on the clock.

A small loop of its own. With ``soft_weight`` 0 it is plain fine-tuning, without a teacher: what distillation has to
beat on the same tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import EngineError, InvalidRequest
from madang.training.distilling.checkpoints import load_checkpoint, save_checkpoint
from madang.training.distilling.losses import weighted
from madang.training.distilling.student import Student
from madang.training.distilling.teacher_logits import TeacherLogits, labelled
from madang.training.examples.encoding import Encoded

LOG_FILE: Final = "log.jsonl"
_CHECKPOINTS: Final = "checkpoints"
_BETAS: Final = (0.9, 0.95)
_LARGEST_NORM: Final = 1.0


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """How a student learns.

    soft_weight       of the teacher's distribution, 0 to 1; the text has the rest (losses.py)
    batch_sequences   per step
    steps             None goes through the sequences once
    warmup_share      of the steps, in which the rate rises to ``learning_rate``; it falls to a tenth of it in the end
    checkpoint_s      seconds between checkpoints
    """

    soft_weight: float = 0.5
    temperature: float = 1.0
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

    step: int
    tokens: int
    labelled_tokens: int
    seconds: float
    loss: float


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

    Raises InvalidRequest when settings, teacher and sequences do not belong together, EngineError when the loss is no
    number (the last good checkpoint stays), and what loading and writing raise.
    """
    _check(items, teacher, config)
    learner = Student(student, precision=config.precision, n_threads=n_threads)
    lesson = _Lesson(items, teacher if config.soft_weight > 0 else None, config)
    done = _Loop(learner, lesson, run_folder, _run_facts(student, items, teacher, config)).run(tell)
    learner.save(target, {"distillation.json": {"config": asdict(config), **asdict(done)}})
    return done


def _check(items: Sequence[Encoded], teacher: TeacherLogits | None, config: DistilConfig) -> None:
    if not any(len(labelled(item)) for item in items):
        raise InvalidRequest("There is nothing to learn: no sequence has a token with a label.", param="data")
    if config.soft_weight > 0 and teacher is None:
        raise InvalidRequest("A soft weight above 0 needs a teacher.", param="soft_weight", hint="Give --teacher.")
    if teacher is not None and teacher.temperature != config.temperature:
        raise InvalidRequest(
            f"The teacher's logits were kept for temperature {teacher.temperature:g}, not {config.temperature:g}.",
            param="temperature",
        )


def _run_facts(
    student: Path, items: Sequence[Encoded], teacher: TeacherLogits | None, config: DistilConfig
) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.input_ids.tobytes() + item.labels.tobytes())
    settings = {key: value for key, value in asdict(config).items() if key != "checkpoint_s"}
    return {
        "student": str(student.resolve()),
        "sequences_sha256": digest.hexdigest(),
        "n_top": None if teacher is None else teacher.n_top,
        **settings,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """What is learnt, and how."""

    items: Sequence[Encoded]
    teacher: TeacherLogits | None
    config: DistilConfig

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.items) // self.config.batch_sequences)

    @property
    def n_steps(self) -> int:
        return self.steps_per_epoch if self.config.steps is None else self.config.steps

    def batches(self, done: int) -> Iterator[list[int]]:
        """Numbers of sequences, from step ``done`` on: each epoch in an order of its own that only the seed decides."""
        size = self.config.batch_sequences
        for step in range(done, self.n_steps):
            epoch, place = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng((self.config.seed, epoch)).permutation(len(self.items))
            yield order[place * size : (place + 1) * size].tolist()


class _Loop:
    def __init__(self, student: Student, lesson: _Lesson, folder: Path, facts: dict[str, Any]) -> None:
        import torch

        self._student, self._lesson, self._config = student, lesson, lesson.config
        self._folder, self._facts = folder, facts
        self._parameters = student.parameters
        self._optimizer: Any = torch.optim.AdamW(
            self._parameters.values(),
            lr=self._config.learning_rate,
            betas=_BETAS,
            weight_decay=self._config.weight_decay,
        )

    def run(self, tell: Callable[[dict[str, Any]], None]) -> Distilled:
        """All steps that are left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = load_checkpoint(self._folder / _CHECKPOINTS, self._parameters, self._optimizer, self._facts)
        state = state or {"step": 0, "tokens": 0, "labelled_tokens": 0, "seconds": 0.0, "loss": 0.0, "run": self._facts}
        kept_at = time.monotonic()
        for batch in self._lesson.batches(state["step"]):
            line = self._step(state, batch)
            with (self._folder / LOG_FILE).open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            tell(line)
            if time.monotonic() - kept_at > self._config.checkpoint_s or state["step"] == self._lesson.n_steps:
                save_checkpoint(self._folder / _CHECKPOINTS, self._parameters, self._optimizer, state)
                kept_at = time.monotonic()
        return Distilled(**{key: value for key, value in state.items() if key != "run"})

    def _step(self, state: dict[str, Any], batch: list[int]) -> dict[str, Any]:
        import torch

        begun = time.perf_counter()
        items = [self._lesson.items[number] for number in batch]
        rows = None if self._lesson.teacher is None else [self._lesson.teacher[number] for number in batch]
        n_labelled = sum(len(labelled(item)) for item in items)
        rate = _rate(state["step"], self._lesson.n_steps, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        parts = self._student.parts(items, rows, self._config.temperature)
        loss = weighted(parts, n_labelled, self._config.soft_weight, self._config.temperature)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), _LARGEST_NORM))
        mean = float(loss.detach())
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise EngineError(
                f"The loss of step {state['step'] + 1} is no number; the run ended before it.",
                hint=f"The last good checkpoint is in {self._folder / _CHECKPOINTS}; try a lower --learning-rate.",
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        n_tokens = sum(len(item.input_ids) for item in items)
        seconds = time.perf_counter() - begun
        state["step"] += 1
        state["tokens"] += n_tokens
        state["labelled_tokens"] += n_labelled
        state["seconds"] += seconds
        state["loss"] = mean
        return {
            "step": state["step"],
            "steps": self._lesson.n_steps,
            "loss": state["loss"],
            "kl": float(parts.kl.detach()) / n_labelled,
            "cross_entropy": float(parts.cross_entropy.detach()) / n_labelled,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": state["tokens"],
            "tokens_s": n_tokens / seconds,
        }


def _rate(step: int, n_steps: int, config: DistilConfig) -> float:
    warmup = math.ceil(config.warmup_share * n_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(n_steps - warmup, 1)
    return config.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
