"""Stop strings on a stream: the answer ends before the first of them, and no part of one is ever shown."""

from __future__ import annotations


class StopMatcher:
    """Filters a text stream that arrives in pieces cut anywhere.

    The stop string that is complete first wins; of several complete at once, the longest. The result does not depend
    on how the text was cut. Only the longest suffix that could still begin a stop string is held back.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._longest_prefix = max((len(text) - 1 for text in stop), default=0)
        self._held = ""
        self._stopped_by: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """Text that may be shown now, and the stop string that ended the answer or None. Nothing follows a stop."""
        if self._stopped_by is not None:
            return "", self._stopped_by
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            start, self._stopped_by = match
            self._held = ""
            return text[:start], self._stopped_by
        n_held = self._undecided(text)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held], None

    def flush(self) -> str:
        """The text held back, when the answer ended without a stop string."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """Start of the winning stop string and the string, or None."""
        found = [(text.find(stop), stop) for stop in self._stop]
        ends = [(start + len(stop), start, stop) for start, stop in found if start >= 0]
        if not ends:
            return None
        _, start, stop = min(ends)
        return start, stop

    def _undecided(self, text: str) -> int:
        """Length of the longest suffix that is the beginning of a stop string."""
        for length in range(min(self._longest_prefix, len(text)), 0, -1):
            suffix = text[len(text) - length :]
            if any(stop.startswith(suffix) for stop in self._stop):
                return length
        return 0
