"""What a step costs on this machine, learned while it runs.

Two questions need it: how much of a long prompt fits between two tokens of the chats that are running, and how many
guessed tokens are worth checking. Only measured times are asked, so nothing here knows a model or a processor.
"""

from __future__ import annotations

from bisect import bisect_left

STEP_TARGET_S = 0.05
SMALLEST_CHUNK_TOKENS = 16
_NEWEST_SHARE = 0.2
# Until it has been measured, a further row is taken to cost so much of the first.
_PRESUMED_ROW_SHARE = 0.15


class Average:
    """A moving average that forgets slowly and starts with the first value."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, value: float) -> None:
        """One more. A value far above the average is the system's doing: it counts as twice the average."""
        if self.value is None:
            self.value = value
        else:
            self.value += _NEWEST_SHARE * (min(value, 2 * self.value) - self.value)


class Pace:
    """Measured seconds: of steps by their number of rows, and of one token of a prompt."""

    def __init__(self, target_s: float = STEP_TARGET_S) -> None:
        self._target_s = target_s
        self._rows: dict[int, Average] = {}
        self._known: list[int] = []  # row counts that have been measured, rising
        self._prompt_token = Average()

    def record(self, n_rows: int, n_prompt_tokens: int, seconds: float) -> None:
        """A step took so long. ``n_rows``: tokens of answers, guessed ones included."""
        if n_prompt_tokens:
            if n_prompt_tokens >= SMALLEST_CHUNK_TOKENS:
                rest = seconds - (self.step_s(n_rows) or 0.0) if n_rows else seconds
                self._prompt_token.add(max(rest, 0.1 * seconds) / n_prompt_tokens)
            return
        if n_rows not in self._rows:
            self._rows[n_rows] = Average()
            self._known.insert(bisect_left(self._known, n_rows), n_rows)
        self._rows[n_rows].add(seconds)

    def step_s(self, n_rows: int) -> float | None:
        """Seconds of a step without prompts; between measured counts on a line. None when nothing was measured."""
        if not self._known:
            return None
        at = bisect_left(self._known, n_rows)
        if at < len(self._known) and self._known[at] == n_rows:
            return self._measured(n_rows)
        below = self._known[at - 1] if at else None
        above = self._known[at] if at < len(self._known) else None
        if below is not None and above is not None:
            share = (n_rows - below) / (above - below)
            return self._measured(below) + share * (self._measured(above) - self._measured(below))
        nearest = self._known[0] if below is None else below
        first = self._measured(nearest) / (1 + _PRESUMED_ROW_SHARE * (nearest - 1))
        return self._measured(nearest) + first * _PRESUMED_ROW_SHARE * (n_rows - nearest)

    def chunk_tokens(self, n_rows: int, most: int) -> int:
        """How much of a prompt goes into a step beside ``n_rows`` rows of answers: all of it when there are none."""
        per_token = self._prompt_token.value
        if n_rows == 0:
            return most
        if per_token is None:
            return min(most, SMALLEST_CHUNK_TOKENS)
        left_s = self._target_s - (self.step_s(n_rows) or 0.0)
        fitting = int(left_s / per_token) // SMALLEST_CHUNK_TOKENS * SMALLEST_CHUNK_TOKENS
        return min(most, max(fitting, SMALLEST_CHUNK_TOKENS))

    def _measured(self, n_rows: int) -> float:
        value = self._rows[n_rows].value
        assert value is not None
        return value
