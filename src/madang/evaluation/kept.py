"""Steps that are finished, in a file per contestant, so that a comparison goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def key_of(facts: object) -> str:
    """Short and the same for the same JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class KeptSteps:
    """Results by key, without a path in memory only. A line that was cut off is as if it had not been written."""

    def __init__(self, path: Path | None, *, fresh: bool = False) -> None:
        self._path = path
        self._results: dict[str, Mapping[str, Any]] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        elif path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            key, result = json.loads(line)
        except (ValueError, TypeError):
            return
        if isinstance(key, str) and isinstance(result, dict):
            self._results[key] = result

    def find(self, key: str) -> Mapping[str, Any] | None:
        """What was kept under that key."""
        return self._results.get(key)

    def keep(self, key: str, result: Mapping[str, Any]) -> None:
        """Write it down at once."""
        self._results[key] = result
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([key, result]))  # so a line that was cut off does not take this one along
