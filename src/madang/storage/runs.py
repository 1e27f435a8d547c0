"""The ledger of generations: which model, how many tokens, how long, how it ended; no prompts and no answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from madang.core.events import Done
from madang.storage.database import Database

MOST_RUNS = 100_000  # that are kept; the oldest go
_PRUNED_EVERY = 512

RunStatus = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One generation. ``id`` is None until it is kept.

    facts   request_id, finish_reason, usage, timings and ledger of its Done, or the code of the error that ended it
    """

    model: str
    status: RunStatus
    started_at: datetime
    owner: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None


def facts_of(done: Done) -> dict[str, Any]:
    """What the end of a generation tells, as JSON holds it."""
    return {
        "finish_reason": done.finish_reason,
        "seed": done.seed,
        "usage": asdict(done.usage),
        "timings": asdict(done.timings),
        "ledger": asdict(done.ledger),
    }


class Runs:
    """The last :data:`MOST_RUNS` generations. Every method raises StorageError."""

    def __init__(self, database: Database, *, most: int = MOST_RUNS) -> None:
        self._database = database
        self._most = most

    def add(self, run: Run) -> int:
        """Keep it; its id."""
        row = (run.owner, run.started_at.timestamp(), run.model, run.status, json.dumps(dict(run.facts)))

        def insert(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO runs (owner, started_at, model, status, facts) VALUES (?, ?, ?, ?, ?)", row
            )
            id = cursor.lastrowid or 0
            if id % min(_PRUNED_EVERY, self._most) == 0:
                connection.execute("DELETE FROM runs WHERE id <= ?", (id - self._most,))
            return id

        return self._database.write(insert)

    def list(
        self, owner: str | None, *, model: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[Run]:
        """The newest first; of everybody when ``owner`` is None. ``before`` is the id that the last page ended with."""
        wanted = {"owner = ?": owner, "model = ?": model, "id < ?": before}
        given = {condition: value for condition, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        query = f"SELECT * FROM runs {where} ORDER BY id DESC LIMIT ?"
        rows = self._database.read(lambda connection: connection.execute(query, (*given.values(), limit)).fetchall())
        return [_run(row) for row in rows]


def _run(row: sqlite3.Row) -> Run:
    return Run(
        id=row["id"],
        owner=row["owner"],
        started_at=datetime.fromtimestamp(row["started_at"], UTC),
        model=row["model"],
        status=row["status"],
        facts=json.loads(row["facts"]),
    )
