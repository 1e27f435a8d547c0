"""The times that every generation reports, taken at the same moments by every engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from madang.core.events import Timings


@dataclass(slots=True)
class Stopwatch:
    """Starts when it is made. ``load_s`` is handed in by who knows it."""

    load_s: float = 0.0
    queue_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    prompt_read_at: float | None = None
    first_token_at: float | None = None
    prompt_tokens_read: int = 0

    def begin(self) -> None:
        """The wait in a queue is over."""
        self.queue_s = time.perf_counter() - self.started

    def prompt_read(self, n_tokens: int) -> None:
        """The prompt has been read; ``n_tokens`` of it were not in the cache."""
        self.prompt_read_at, self.prompt_tokens_read = time.perf_counter(), n_tokens

    def token(self) -> None:
        """A token has been chosen; only the first matters."""
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()

    def timings(self, completion_tokens: int) -> Timings:
        """Everything so far. The first token belongs to the prompt; decoding is what comes after it."""
        now = time.perf_counter()
        prompt_read_at = now if self.prompt_read_at is None else self.prompt_read_at
        first = prompt_read_at if self.first_token_at is None else self.first_token_at
        return Timings(
            load_s=self.load_s,
            queue_s=self.queue_s,
            prompt_s=prompt_read_at - self.started - self.queue_s,
            decode_s=now - first if completion_tokens > 1 else 0.0,
            time_to_first_token_s=first - self.started,
            prompt_tokens_read=self.prompt_tokens_read,
            decode_tokens=max(completion_tokens - 1, 0),
        )
