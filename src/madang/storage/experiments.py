"""The ledger of experiments: evaluations, tunings and whatever else measures a model, each with its whole document."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from madang.core.errors import NotFound
from madang.storage.database import Database

_SHORT = "id, kind, made_at, model, digest, seconds, facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One of them. ``id`` is None until it is kept.

    kind       eval, tune, distill, prune, merge …
    digest     SHA-256 of the model's files
    seconds    that it took
    facts      what a list shows of it: figures by task, settings
    document   all of it; empty in lists
    """

    kind: str
    model: str
    digest: str
    made_at: datetime
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None


class Experiments:
    """All that were kept; none goes by itself. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, own: Experiment) -> int:
        """Keep it; its id."""
        facts, document = (json.dumps(dict(part), ensure_ascii=False) for part in (own.facts, own.document))
        row = (own.kind, own.made_at.timestamp(), own.model, own.digest, own.seconds, facts, document)

        def insert(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO experiments (kind, made_at, model, digest, seconds, facts, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            return cursor.lastrowid or 0

        return self._database.write(insert)

    def list(self, *, kind: str | None = None, model: str | None = None, limit: int = 100) -> list[Experiment]:
        """The newest first, without their documents."""
        wanted = {"kind = ?": kind, "model = ?": model}
        given = {condition: value for condition, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        query = f"SELECT {_SHORT} FROM experiments {where} ORDER BY id DESC LIMIT ?"
        rows = self._database.read(lambda connection: connection.execute(query, (*given.values(), limit)).fetchall())
        return [_experiment(row) for row in rows]

    def find(self, id: int) -> Experiment:
        """The one with that id, with its document. Raises NotFound."""
        query = f"SELECT {_SHORT}, document FROM experiments WHERE id = ?"
        row = self._database.read(lambda connection: connection.execute(query, (id,)).fetchone())
        if row is None:
            raise NotFound("run", str(id), hint="See 'madang runs list' for those that there are.")
        return _experiment(row)

    def remove(self, id: int) -> None:
        """Forget it. Raises NotFound."""
        self.find(id)
        self._database.write(lambda connection: connection.execute("DELETE FROM experiments WHERE id = ?", (id,)))


def _experiment(row: sqlite3.Row) -> Experiment:
    return Experiment(
        id=row["id"],
        kind=row["kind"],
        made_at=datetime.fromtimestamp(row["made_at"], UTC),
        model=row["model"],
        digest=row["digest"],
        seconds=row["seconds"],
        facts=json.loads(row["facts"]),
        document=json.loads(row["document"]) if "document" in row.keys() else {},  # noqa: SIM118  (not a mapping)
    )
