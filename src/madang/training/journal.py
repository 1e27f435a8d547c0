"""log.jsonl of a run: one object per step and per evaluation, in order; readable while it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from madang.core.writing import within_disk, write_atomically

FILE: Final = "log.jsonl"


class Journal:
    """The log of one run. Without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write one line. Raises NotEnoughDisk."""
        if self._path is not None:
            with within_disk(self._path.parent), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def entries(self) -> Iterator[dict[str, Any]]:
        """All lines that are whole."""
        if self._path is None or not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # cut off by what ended the run
                continue

    def cut(self, step: int) -> None:
        """Forget what came after ``step``: it will be done again."""
        if self._path is not None:
            kept = [json.dumps(entry) + "\n" for entry in self.entries() if entry["step"] <= step]
            write_atomically(self._path, "".join(kept))
