"""AdamW as every run uses it: a rate by schedule, gradients cut to a norm, and no step from what is no number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from madang.core.errors import TrainingFailed
from madang.training.checkpoints import Checkpoints


class Step(NamedTuple):
    """A step that was taken: its rate, and the norm of its gradients before they were cut."""

    learning_rate: float
    grad_norm: float


@dataclass(slots=True, kw_only=True)
class Optimizer:
    """Over what ``model`` trains; ``learning_rate`` is the highest of ``n_steps``. ``adamw`` is torch's."""

    model: Any
    n_steps: int
    learning_rate: float
    warmup_share: float
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    trained: list[Any] = field(init=False)
    adamw: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # Fused, as one pass over the weights is all that it needs.
        self.adamw = torch.optim.AdamW(
            self.trained, lr=0.0, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )

    def step(self, done: int, loss: float, checkpoints: Checkpoints) -> Step:
        """Follow the gradients that are there, and clear them.

        Raises TrainingFailed when they or ``loss`` are no finite numbers; the weights are then as they were.
        """
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "the loss is no finite number" if not math.isfinite(loss) else "its gradient is no finite number"
            raise TrainingFailed(what, done + 1, checkpoints.last())
        rate = self.learning_rate * schedule(done, self.n_steps, self.warmup_share)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=False)
        return Step(rate, norm)


def schedule(done: int, n_steps: int, warmup_share: float) -> float:
    """The factor of the learning rate for the step after ``done``: up in a line, then down a cosine to a tenth."""
    n_warmup = round(n_steps * warmup_share)
    if done < n_warmup:
        return (done + 1) / n_warmup
    along = (done - n_warmup) / max(1, n_steps - n_warmup)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * along))
