"""What has been measured so far, a line per figure, so that work that was interrupted goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


class Journal:
    """Numbers by key; a line that was cut off is as if it had not been written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, float] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            key, value = json.loads(line)
        except ValueError:
            return
        if isinstance(key, str) and isinstance(value, int | float):
            self._figures[key] = float(value)

    def figure(self, key: str, measure: Callable[[], float]) -> float:
        """The figure of that key; measured and kept when it is not there yet."""
        if key not in self._figures:
            value = measure()
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps([key, value]))  # so a line that was cut off does not take this one along
            self._figures[key] = value
        return self._figures[key]
