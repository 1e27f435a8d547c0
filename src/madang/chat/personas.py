"""Personas: who answers in a session. A name, a style, a system prompt, a model, and collections of documents."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from madang.core.errors import InvalidRequest, NotFound
from madang.storage import Database

MOST_CHARACTERS = {"name": 64, "style": 2000, "system": 50_000, "model": 4096}


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """``style`` and ``system`` are both told to the model; ``collections`` are names."""

    name: str
    style: str = ""
    system: str = ""
    model: str | None = None
    collections: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidRequest("A persona has a name.", param="name")
        for field, most in MOST_CHARACTERS.items():
            if len(getattr(self, field) or "") > most:
                raise InvalidRequest(f"The {field} of a persona has at most {most} characters.", param=field)

    @property
    def prompt(self) -> str | None:
        """The system message; None when there is nothing to say."""
        return "\n\n".join(text for text in (self.system.strip(), self.style.strip()) if text) or None


class Personas:
    """Each owner's personas, by name. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, owner: str, persona: Persona) -> None:
        """Keep it, in place of one of the same name."""
        row = (owner, persona.name, persona.style, persona.system, persona.model, json.dumps(persona.collections))
        self._database.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO personas VALUES (?, ?, ?, ?, ?, ?)", row)
        )

    def get(self, owner: str, name: str) -> Persona:
        """Raises NotFound."""
        query = "SELECT * FROM personas WHERE owner = ? AND name = ?"
        row = self._database.read(lambda connection: connection.execute(query, (owner, name)).fetchone())
        if row is None:
            raise NotFound("persona", name)
        return _persona(row)

    def list(self, owner: str) -> list[Persona]:
        """By name."""
        query = "SELECT * FROM personas WHERE owner = ? ORDER BY name"
        rows = self._database.read(lambda connection: connection.execute(query, (owner,)).fetchall())
        return [_persona(row) for row in rows]

    def remove(self, owner: str, name: str) -> None:
        """Raises NotFound. Sessions that name it go on without."""
        query = "DELETE FROM personas WHERE owner = ? AND name = ?"
        if self._database.write(lambda connection: connection.execute(query, (owner, name)).rowcount) == 0:
            raise NotFound("persona", name)


def _persona(row: sqlite3.Row) -> Persona:
    return Persona(
        name=row["name"],
        style=row["style"],
        system=row["system"],
        model=row["model"],
        collections=tuple(json.loads(row["collections"])),
    )
