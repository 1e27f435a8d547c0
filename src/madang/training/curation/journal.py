"""What a synthesis has made so far, beside the file that it will become: FILE.part, one attempt per line.

An interrupted run leaves it behind and the same call goes on from it; a line that was not finished counts for nothing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from madang.core.errors import InvalidRequest
from madang.core.writing import within_disk
from madang.training.curation.recipe import Recipe
from madang.training.curation.synthesis import Attempt, Topic
from madang.training.examples.forms import Unusable, example_of
from madang.training.examples.reading import with_origin
from madang.training.examples.writing import check_new, row_of, writing_examples


class Journal:
    """Opens what is there, or begins anew."""

    def __init__(self, output: Path, recipe: Recipe, topics: Sequence[Topic], model: str) -> None:
        """Raises InvalidRequest when ``output`` is there already, or its journal is of another call."""
        check_new(output)
        self._output = output
        self.path = output.with_name(output.name + ".part")
        self._header = {"recipe": asdict(recipe), "topics": [topic.text for topic in topics], "model": model}
        self.done: dict[int, list[Attempt]] = {}
        self._is_begun = self.path.exists() and self._read()

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt; it is on the disk when this returns."""
        if not self._is_begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append({"header": self._header})
            self._is_begun = True
        self._append(_row(attempt))
        self.done.setdefault(attempt.number, []).append(attempt)

    def finish(self) -> dict[str, Any]:
        """Write the file, forget the journal, and say what became of all attempts."""
        attempts = [attempt for number in sorted(self.done) for attempt in self.done[number]]
        with writing_examples(self._output) as write:
            for attempt in attempts:
                if attempt.example is not None:
                    write(row_of(attempt.example))
        self.path.unlink(missing_ok=True)
        return self.report(attempts)

    def report(self, attempts: Sequence[Attempt]) -> dict[str, Any]:
        """Counts for JSON; reasons without their numbers."""
        made = sum(attempt.example is not None for attempt in attempts)
        refused = [attempt for attempt in attempts if attempt.refused is not None]
        reasons = Counter(str(attempt.refused).partition(" (")[0] for attempt in refused)
        return {
            "made": made,
            "given_up": len(self.done) - made,
            "attempts": len(attempts),
            "refused": dict(reasons.most_common()),
            "examples": [{"refused": a.refused, "said": " ".join(a.said.split())[:120]} for a in refused[:5]],
        }

    def _append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with within_disk(self.path.parent, len(line.encode())), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> bool:
        """Take up what is there; whether it has a header."""
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        try:
            rows = [json.loads(line) for line in whole.splitlines()]
            header = rows[0]["header"] if rows else None
            attempts = [_attempt(row) for row in rows[1:]]
        except (ValueError, KeyError, TypeError, Unusable):
            raise InvalidRequest(
                f"{self.path} is damaged.", param="output", hint="Remove it to begin anew, or name another file."
            ) from None
        if header is not None and header != json.loads(json.dumps(self._header)):
            raise InvalidRequest(
                f"{self.path} was left by a call with another model, other topics or other options.",
                param="output",
                hint="Repeat that call to go on with it, remove the file to begin anew, or name another output.",
            )
        if whole != raw:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for attempt in attempts:
            self.done.setdefault(attempt.number, []).append(attempt)
        return header is not None


def _row(attempt: Attempt) -> dict[str, Any]:
    row: dict[str, Any] = {"number": attempt.number, "attempt": attempt.attempt}
    if attempt.example is not None:
        return row | {"example": row_of(attempt.example)}
    return row | {"refused": attempt.refused, "said": attempt.said}


def _attempt(row: Mapping[str, Any]) -> Attempt:
    kept = row.get("example")
    if kept is None:
        return Attempt(int(row["number"]), int(row["attempt"]), None, str(row["refused"]), str(row["said"]))
    example = with_origin(example_of(kept, "text" if "text" in kept else "chat"), kept, "", 0)
    return Attempt(int(row["number"]), int(row["attempt"]), example)
