"""What forecasts learn from answers of the server: from those that ran alone, while nothing else runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from madang.core.events import Done
from madang.core.settings import Settings
from madang.runtime.forecasting import Learner
from madang.server.background import Background
from madang.server.bridge import in_thread
from madang.server.metrics import GenerationEnd

LEARN_EVERY_S = 10.0  # per model: the last observations should not all be of one moment
MOST_MODELS = 16


class Learning:
    """One :class:`~madang.runtime.forecasting.Learner` per model. ``clock`` gives seconds that never go backwards."""

    def __init__(
        self, settings: Settings, background: Background, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._background, self._clock = settings, background, clock
        self._learners: dict[str, Learner] = {}
        self._learned_s: dict[str, float] = {}

    def ended(self, end: GenerationEnd) -> None:
        """Learn from it soon, if it says anything. Does not wait."""
        if end.done is None or not end.ran_alone:
            return
        now_s = self._clock()
        if now_s - self._learned_s.get(end.model, -LEARN_EVERY_S) < LEARN_EVERY_S:
            return
        if end.model not in self._learners and len(self._learners) >= MOST_MODELS:
            oldest = next(iter(self._learners))
            self._learners.pop(oldest)
            self._learned_s.pop(oldest)
        learner = self._learners.setdefault(end.model, Learner(end.model, self._settings))
        self._learned_s[end.model] = now_s
        self._background.start(f"forecast {end.model}", partial(_learn, learner, end.done))


async def _learn(learner: Learner, done: Done) -> None:
    await in_thread(partial(learner.learn, done))
