"""Sessions: conversations that last, each with its owner, and every turn ever said in them.

Turns are a tree: each follows its parent, and an edit or another answer is a sibling of what it replaces. ``head`` is
the turn that the conversation ends with now; going on from another turn moves it and forgets nothing.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from madang.chat.describing import Description
from madang.chat.fitting import POLICIES, ContextPolicy
from madang.core.errors import InvalidRequest, NotFound
from madang.core.messages import Message, ToolCall
from madang.storage import Database

TITLE_CHARACTERS = 200
_TITLE_OF_QUESTION = 60
MOST_TURNS = 20_000  # of one session

TitleBy = Literal["question", "model", "person"]
TITLES_BY: tuple[TitleBy, ...] = get_args(TitleBy)
MOST_TAGS = 16  # that a person may give
TAG_CHARACTERS = 40
SUMMARY_CHARACTERS = 2000
TurnState = Literal["whole", "partial"]  # partial: the client left, or the generation failed

_PATH = """
    WITH RECURSIVE path AS (
        SELECT messages.*, 0 AS depth FROM messages WHERE id = :head AND session = :session
        UNION ALL
        SELECT messages.*, depth + 1 FROM messages JOIN path ON messages.id = path.parent
        WHERE messages.session = :session AND depth < :most
    )
    SELECT * FROM path ORDER BY depth DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation. ``persona`` and ``model`` are names or None; ``model`` is what answered last.

    title_by    who gave it its title: the first question its beginning, the model, or a person
    tags, summary   what it is about, as its model says, or a person
    described   how many questions it had when its model said so; 0 before
    """

    id: str
    owner: str = ""
    title: str = ""
    created_at: datetime
    updated_at: datetime
    model: str | None = None
    persona: str | None = None
    context_policy: ContextPolicy = "strict"
    head: str | None = None
    title_by: TitleBy = "question"
    tags: tuple[str, ...] = ()
    summary: str = ""
    described: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a session.

    model   that said it; None for what people said
    facts   usage, timings and ledger of an answer, as :func:`~madang.storage.runs.facts_of` has them
    """

    id: str
    message: Message
    parent: str | None = None
    reasoning: str = ""
    state: TurnState = "whole"
    model: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Changes:
    """What of a session is to become something else; None stays as it is, and an empty name is none.

    A title is a person's, unless ``title_by`` says otherwise; without a title it is the next question's to give one.
    """

    title: str | None = None
    model: str | None = None
    persona: str | None = None
    context_policy: ContextPolicy | None = None
    tags: tuple[str, ...] | None = None
    summary: str | None = None
    title_by: TitleBy | None = None

    def __post_init__(self) -> None:
        if self.title is not None and len(self.title) > TITLE_CHARACTERS:
            raise InvalidRequest(f"A title has at most {TITLE_CHARACTERS} characters.", param="title")
        if self.context_policy is not None and self.context_policy not in POLICIES:
            raise InvalidRequest(f"context_policy is one of {', '.join(POLICIES)}.", param="context_policy")
        if self.title_by is not None and self.title_by not in TITLES_BY:
            raise InvalidRequest(f"title_by is one of {', '.join(TITLES_BY)}.", param="title_by")
        if len(self.tags or ()) > MOST_TAGS or any(not 0 < len(tag) <= TAG_CHARACTERS for tag in self.tags or ()):
            raise InvalidRequest(
                f"A session has at most {MOST_TAGS} tags of 1 to {TAG_CHARACTERS} characters.", param="tags"
            )
        if len(self.summary or "") > SUMMARY_CHARACTERS:
            raise InvalidRequest(f"A summary has at most {SUMMARY_CHARACTERS} characters.", param="summary")

    def row(self) -> dict[str, Any]:
        """Columns and their new values."""
        given = {"title": self.title, "model": self.model, "persona": self.persona}
        row: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in ("model", "persona"):
            if row.get(name) == "":
                row[name] = None
        if self.title is not None:
            row["title_by"] = self.title_by or ("person" if self.title else "question")
        if self.tags is not None:
            row |= {"tags": json.dumps(self.tags, ensure_ascii=False), "tags_by": "person"}
        if self.summary is not None:
            row |= {"summary": self.summary, "summary_by": "person"}
        return row if self.context_policy is None else row | {"context_policy": self.context_policy}


def new_session_id() -> str:
    """An id that nobody guesses."""
    return f"ses_{secrets.token_hex(12)}"


def new_turn_id() -> str:
    """An id that nobody guesses, and that no two sessions share."""
    return f"msg_{secrets.token_hex(12)}"


class Sessions:
    """Everybody's sessions. Each method wants the owner, and finds nothing of others: raises NotFound, StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, owner: str, changes: Changes | None = None, turns: Sequence[Turn] = ()) -> Session:
        """A new session, with ``turns`` in it; the last of them is its end."""
        now_s, id = _now_s(), new_session_id()
        row = {
            "id": id,
            "owner": owner,
            "title": "",
            "created_at": now_s,
            "updated_at": now_s,
            "model": None,
            "persona": None,
            "context_policy": "strict",
            "head": None,
        } | (Changes() if changes is None else changes).row()

        def insert(connection: sqlite3.Connection) -> Session:
            columns = ", ".join(row)
            connection.execute(
                f"INSERT INTO sessions ({columns}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
            )
            if turns:
                _append(connection, id, turns)
            return _session(_found(connection, owner, id))

        return self._database.write(insert)

    def get(self, owner: str, id: str) -> Session:
        """One of them."""
        return _session(self._database.read(lambda connection: _found(connection, owner, id)))

    def find(self, owner: str, query: str = "", *, before: float | None = None, limit: int = 100) -> list[Session]:
        """The last used first. ``query``: all of its words stand in the title, the tags or in what was said.

        ``before`` is the ``updated_at`` that the last page ended with, in seconds since 1970.
        """
        conditions: list[str] = ["owner = ?"]
        values: list[str | float] = [owner]
        for word in query.split():
            pattern = "%" + re.sub(r"([%_^])", r"^\1", word) + "%"
            conditions.append(
                "(title LIKE ? ESCAPE '^' OR tags LIKE ? ESCAPE '^' OR EXISTS (SELECT 1 FROM messages "
                "WHERE messages.session = sessions.id AND content LIKE ? ESCAPE '^'))"
            )
            values += [pattern, pattern, pattern]
        if before is not None:
            conditions.append("updated_at < ?")
            values.append(before)
        statement = f"SELECT * FROM sessions WHERE {' AND '.join(conditions)} ORDER BY updated_at DESC, id LIMIT ?"
        rows = self._database.read(lambda connection: connection.execute(statement, (*values, limit)).fetchall())
        return [_session(row) for row in rows]

    def named(self, owner: str, name: str) -> Session:
        """The one with this id, or the last used one with this title."""
        query = "SELECT * FROM sessions WHERE owner = ? AND (id = ? OR title = ?) ORDER BY id = ? DESC, updated_at DESC"
        row = self._database.read(lambda connection: connection.execute(query, (owner, name, name, name)).fetchone())
        if row is None:
            raise NotFound("session", name, hint="See: madang sessions list")
        return _session(row)

    def change(self, owner: str, id: str, changes: Changes) -> Session:
        """With other properties."""
        row = changes.row() | {"updated_at": _now_s()}

        def update(connection: sqlite3.Connection) -> Session:
            _found(connection, owner, id)
            columns = ", ".join(f"{name} = ?" for name in row)
            connection.execute(f"UPDATE sessions SET {columns} WHERE id = ?", (*row.values(), id))
            return _session(_found(connection, owner, id))

        return self._database.write(update)

    def remove(self, owner: str, id: str) -> None:
        """Delete it with everything that was said in it."""

        def delete(connection: sqlite3.Connection) -> None:
            _found(connection, owner, id)
            connection.execute("DELETE FROM sessions WHERE id = ?", (id,))

        self._database.write(delete)

    def turns(self, owner: str, id: str) -> list[Turn]:
        """Every turn of every branch, oldest first."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            _found(connection, owner, id)
            query = "SELECT * FROM messages WHERE session = ? ORDER BY created_at, rowid"
            return connection.execute(query, (id,)).fetchall()

        return [_turn(row) for row in self._database.read(select)]

    def path(self, owner: str, id: str, end: str | None = None) -> list[Turn]:
        """The conversation up to ``end``, which is the head when it is None."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            head = _found(connection, owner, id)["head"] if end is None else end
            rows = connection.execute(_PATH, {"head": head, "session": id, "most": MOST_TURNS}).fetchall()
            if end is not None and not rows:
                raise NotFound("message", end)
            return rows

        self.get(owner, id)
        return [_turn(row) for row in self._database.read(select)]

    def append(self, owner: str, id: str, turns: Sequence[Turn]) -> None:
        """Keep ``turns``, each with its parent; the last is the end of the conversation from now on.

        What is there already stays as it is, so that this may be said twice. The first question becomes the title of a
        session without one.
        """

        def insert(connection: sqlite3.Connection) -> None:
            session = _found(connection, owner, id)
            _append(connection, id, turns)
            if not session["title"]:
                title = next((title_of(turn.message.content) for turn in turns if turn.message.role == "user"), "")
                connection.execute("UPDATE sessions SET title = ? WHERE id = ?", (title, id))

        self._database.write(insert)

    def go_on_from(self, owner: str, id: str, turn: str | None) -> Session:
        """End the conversation at ``turn``, or before its first one. What came after it stays in its branch."""

        def update(connection: sqlite3.Connection) -> Session:
            _found(connection, owner, id)
            query = "SELECT 1 FROM messages WHERE id = ? AND session = ?"
            if turn is not None and connection.execute(query, (turn, id)).fetchone() is None:
                raise NotFound("message", turn)
            connection.execute("UPDATE sessions SET head = ?, updated_at = ? WHERE id = ?", (turn, _now_s(), id))
            return _session(_found(connection, owner, id))

        return self._database.write(update)

    def summaries(self, owner: str, id: str) -> dict[str, str]:
        """Summaries of its beginnings, by digest."""

        def select(connection: sqlite3.Connection) -> dict[str, str]:
            _found(connection, owner, id)
            rows = connection.execute("SELECT digest, content FROM summaries WHERE session = ?", (id,))
            return {row["digest"]: row["content"] for row in rows}

        return self._database.read(select)

    def keep_summary(self, owner: str, id: str, digest: str, content: str) -> None:
        """Use it from now on for conversations that begin so."""

        def insert(connection: sqlite3.Connection) -> None:
            _found(connection, owner, id)
            connection.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", (id, digest, content))

        self._database.write(insert)

    def describe(self, owner: str, id: str, description: Description, n_questions: int) -> None:
        """Keep what the model says it is about, at so many questions. What a person said stays."""

        def update(connection: sqlite3.Connection) -> None:
            _found(connection, owner, id)
            connection.execute("UPDATE sessions SET described = ? WHERE id = ?", (n_questions, id))
            if description.title is not None:
                statement = "UPDATE sessions SET title = ?, title_by = 'model' WHERE id = ? AND title_by = 'question'"
                connection.execute(statement, (description.title, id))
            if description.tags:
                tags = json.dumps(description.tags, ensure_ascii=False)
                connection.execute("UPDATE sessions SET tags = ? WHERE id = ? AND tags_by = 'model'", (tags, id))
            if description.summary:
                statement = "UPDATE sessions SET summary = ? WHERE id = ? AND summary_by = 'model'"
                connection.execute(statement, (description.summary, id))

        self._database.write(update)

    def owners(self) -> list[str]:
        """Everybody who has sessions. For whoever may read the file itself."""
        query = "SELECT DISTINCT owner FROM sessions ORDER BY owner"
        return self._database.read(lambda connection: [row["owner"] for row in connection.execute(query)])


def title_of(question: str) -> str:
    """The beginning of a question, cut between words where that is possible."""
    words = " ".join(question.split())
    if len(words) <= _TITLE_OF_QUESTION:
        return words
    cut = words[:_TITLE_OF_QUESTION].rsplit(" ", 1)[0]
    return cut + "…"


def chained(parent: str | None, messages: Sequence[Message]) -> list[Turn]:
    """Messages as turns that follow each other, the first one ``parent``."""
    turns: list[Turn] = []
    for message in messages:
        turns.append(Turn(id=new_turn_id(), message=message, parent=parent))
        parent = turns[-1].id
    return turns


def reparented(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns under new ids. Raises InvalidRequest for one whose parent is not before it."""
    ids: dict[str, str] = {}
    fresh: list[Turn] = []
    for turn in turns:
        if turn.parent is not None and turn.parent not in ids:
            raise InvalidRequest(f"The parent of the message '{turn.id}' is not before it.", param="messages")
        if turn.id in ids:
            raise InvalidRequest(f"The message '{turn.id}' is there twice.", param="messages")
        ids[turn.id] = new_turn_id()
        fresh.append(replace(turn, id=ids[turn.id], parent=None if turn.parent is None else ids[turn.parent]))
    return fresh


def _now_s() -> float:
    """In whole microseconds, so that it is the same again after it was a date."""
    return datetime.now(UTC).timestamp()


def _found(connection: sqlite3.Connection, owner: str, id: str) -> sqlite3.Row:
    """The one place where sessions are looked up: by id and owner, never by id alone."""
    row = connection.execute("SELECT * FROM sessions WHERE id = ? AND owner = ?", (id, owner)).fetchone()
    if row is None:
        raise NotFound("session", id)
    found: sqlite3.Row = row
    return found


def _append(connection: sqlite3.Connection, session: str, turns: Sequence[Turn]) -> None:
    n_turns = connection.execute("SELECT count(*) FROM messages WHERE session = ?", (session,)).fetchone()[0]
    if n_turns + len(turns) > MOST_TURNS:
        raise InvalidRequest(f"A session has at most {MOST_TURNS} messages.", param="messages", hint="Begin another.")
    connection.executemany(
        "INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_row(session, turn) for turn in turns]
    )
    model = next((turn.model for turn in reversed(turns) if turn.model is not None), None)
    connection.execute(
        "UPDATE sessions SET head = ?, updated_at = ?, model = COALESCE(?, model) WHERE id = ?",
        (turns[-1].id, _now_s(), model, session),
    )


def _row(session: str, turn: Turn) -> tuple[object, ...]:
    message = turn.message
    parts: dict[str, object] = {
        "reasoning": turn.reasoning,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    return (
        turn.id,
        session,
        turn.parent,
        message.role,
        message.content,
        json.dumps({name: value for name, value in parts.items() if value}),
        turn.state,
        turn.model,
        json.dumps(dict(turn.facts)),
        turn.created_at.timestamp(),
    )


def _turn(row: sqlite3.Row) -> Turn:
    parts = json.loads(row["parts"])
    message = Message(
        row["role"],
        row["content"],
        tool_calls=tuple(ToolCall(**call) for call in parts.get("tool_calls", ())),
        tool_call_id=parts.get("tool_call_id"),
        name=parts.get("name"),
    )
    return Turn(
        id=row["id"],
        message=message,
        parent=row["parent"],
        reasoning=parts.get("reasoning", ""),
        state=row["state"],
        model=row["model"],
        facts=json.loads(row["facts"]),
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
    )


def _session(row: sqlite3.Row) -> Session:
    return Session(
        id=row["id"],
        owner=row["owner"],
        title=row["title"],
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
        updated_at=datetime.fromtimestamp(row["updated_at"], UTC),
        model=row["model"],
        persona=row["persona"],
        context_policy=row["context_policy"],
        head=row["head"],
        title_by=row["title_by"],
        tags=tuple(json.loads(row["tags"])),
        summary=row["summary"],
        described=row["described"],
    )
