"""The steps of a run. Read :meth:`Training.run` first: batch, rows, loss, gradients, step, log, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from threading import Event
from typing import Any, Protocol

from madang.training.batching import Row, all_steps, rows_of
from madang.training.checkpoints import Checkpoints
from madang.training.config import TuneConfig
from madang.training.examples import Encoded
from madang.training.journal import Journal
from madang.training.loss import Objective
from madang.training.optimizer import Optimizer
from madang.training.planning import RunPlan
from madang.training.processes import Processes


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimizer step.

    loss        nats per learned token, over the whole step
    tokens      that were read, padding and repetitions not counted; ``tokens_s`` is their rate
    grad_norm   before it was cut to the limit
    """

    step: int
    loss: float
    learning_rate: float
    tokens: int
    tokens_s: float
    grad_norm: float


class Watcher(Protocol):
    """Who looks on."""

    def stepped(self, log: StepLog, n_steps: int, left_s: float) -> None:
        """A step is done; so much is left."""

    def judged(self, step: int, loss: float, is_best: bool) -> None:
        """The held-out loss after a step."""

    def asked(self, what: str, done: int, total: int) -> None:
        """So many items of a task were asked, before or after."""


@dataclass(slots=True)
class Progress:
    """Where a run is; what checkpoints keep beside tensors."""

    step: int = 0
    best_loss: float | None = None
    n_worse: int = 0
    loss: float = math.nan


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the steps ended: "finished", "early stop" or "interrupted"."""

    ended: str
    steps: int
    final_loss: float
    best_loss: float | None
    tokens: int
    seconds: float


@dataclass(slots=True)
class Training:
    """One run on tensors. ``packed`` says how examples lie in rows; ``stop`` ends it after the step."""

    config: TuneConfig
    plan: RunPlan
    model: Any
    objective: Objective
    items: Sequence[Encoded]
    held_out: Sequence[Row]
    packed: bool
    checkpoints: Checkpoints
    journal: Journal
    processes: Processes = field(default_factory=Processes)
    stop: Event = field(default_factory=Event)
    watcher: Watcher | None = None

    def run(self) -> Outcome:
        """Train to the end, from the last checkpoint where there is one.

        Raises TrainingFailed when the loss is no number, NotEnoughDisk; checkpoints before that stay.
        """
        optimizer = self._optimizer()
        progress = self._resumed(optimizer)
        n_steps, ended = self.plan.n_steps.value, "finished"
        started, n_tokens, first = time.perf_counter(), 0, progress.step
        lengths = [len(item.input_ids) for item in self.items]
        steps = islice(all_steps(lengths, self.config.seed, self.plan.batch_tokens.value), first, n_steps)
        if progress.n_worse >= self.config.patience > 0:
            return Outcome("early stop", first, progress.loss, progress.best_loss, 0, 0.0)
        for _, numbers in steps:
            log = self._step(optimizer, [self.items[number] for number in numbers], progress.step)
            progress.step, progress.loss = log.step, log.loss
            n_tokens += log.tokens
            if self.processes.is_first:
                self.journal.add(asdict(log))
                if self.watcher is not None:
                    spent = time.perf_counter() - started
                    self.watcher.stepped(log, n_steps, spent / (log.step - first) * (n_steps - log.step))
            if log.step % self.plan.evaluate_every.value == 0 or log.step == n_steps:
                self._judge(progress)
            wants_stop = self.processes.told(self.stop.is_set())
            is_over = 0 < self.config.patience <= progress.n_worse and log.step < n_steps
            if wants_stop or is_over or log.step % self.plan.checkpoint_every.value == 0 or log.step == n_steps:
                self._save(optimizer, progress)
            if wants_stop or is_over:
                ended = "interrupted" if wants_stop else "early stop"
                break
        spent = time.perf_counter() - started
        return Outcome(ended, progress.step, progress.loss, progress.best_loss, n_tokens, spent)

    def _optimizer(self) -> Optimizer:
        return Optimizer(
            model=self.model,
            n_steps=self.plan.n_steps.value,
            learning_rate=self.plan.learning_rate.value,
            warmup_share=self.config.warmup_share,
            weight_decay=self.config.weight_decay,
            max_grad_norm=self.config.max_grad_norm,
        )

    def _resumed(self, optimizer: Optimizer) -> Progress:
        last = self.checkpoints.last()
        if last is None:
            return Progress()
        state = self.checkpoints.load(last, self.model, optimizer.adamw)
        if self.processes.is_first:
            self.journal.cut(state["step"])
        return Progress(**state)

    def _step(self, optimizer: Optimizer, batch: Sequence[Encoded], done: int) -> StepLog:
        started = time.perf_counter()
        row_tokens = min(self.plan.row_tokens.value, -(-self.plan.batch_tokens.value // self.processes.n))
        rows = [row for row, _ in rows_of(batch, row_tokens, packed=self.packed)]
        loss = self._backward(optimizer.trained, self.processes.part(rows), sum(len(row.targets) for row in rows))
        rate, norm = optimizer.step(done, loss, self.checkpoints)
        n_tokens = sum(row.n_tokens for row in rows)
        return StepLog(done + 1, loss, rate, n_tokens, n_tokens / (time.perf_counter() - started), norm)

    def _backward(self, trained: Sequence[Any], rows: Sequence[Row], n_targets: int) -> float:
        """Gradients of the step's mean loss, summed over processes; returns the loss."""
        import torch

        total = torch.zeros((), dtype=torch.float32, device=self.objective.device)
        for row in rows:
            loss = self.objective.loss(row) / n_targets
            loss.backward()
            total += loss.detach()
        for parameter in trained:  # a process that had no row, too
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.processes.add_up([*(parameter.grad for parameter in trained), total])
        return float(total)

    def _judge(self, progress: Progress) -> None:
        """Measure the held-out loss; keep the weights if it is the best so far."""
        if not self.held_out:
            return
        loss = held_out_loss(self.model, self.objective, self.held_out, self.processes)
        is_best = progress.best_loss is None or loss < progress.best_loss
        progress.best_loss = loss if is_best else progress.best_loss
        progress.n_worse = 0 if is_best else progress.n_worse + 1
        if self.processes.is_first:
            if is_best:
                self.checkpoints.save_best(self.model)
            self.journal.add({"step": progress.step, "held_out_loss": loss})
            if self.watcher is not None:
                self.watcher.judged(progress.step, loss, is_best)

    def _save(self, optimizer: Optimizer, progress: Progress) -> None:
        if self.processes.is_first:
            state = {name: value for name, value in asdict(progress).items() if name != "step"}
            self.checkpoints.save(progress.step, self.model, optimizer.adamw, state)
        self.processes.wait()


def held_out_loss(model: Any, objective: Objective, rows: Sequence[Row], processes: Processes) -> float:
    """Nats per learned token."""
    import torch

    model.eval()
    total = torch.zeros(2, dtype=torch.float32, device=objective.device)
    for row in processes.part(rows):
        nats = objective.judge(row).nats
        total += torch.tensor([float(nats.sum()), float(len(nats))], device=total.device)
    processes.add_up([total])
    model.train()
    return float(total[0] / total[1])
