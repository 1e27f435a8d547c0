"""Sessions as files: JSON, which has every branch and fact, and Markdown, which has the conversation for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from madang.chat.sessions import Changes, Session, Turn, chained, new_turn_id, reparented
from madang.core.errors import InvalidRequest
from madang.core.messages import ROLES, Message, ToolCall

FORMAT = "madang-session"
VERSION = 1
_TAGS = "Tags: "
_SUMMARY = "> "
_HEADING = re.compile(rf"## ({'|'.join(ROLES)})")
_LOOKS_LIKE_HEADING = re.compile(rf"^\\*## (?:{'|'.join(ROLES)})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an import brings: properties of the session, and turns under ids of their own; the last is its end."""

    changes: Changes
    turns: tuple[Turn, ...]


def to_document(session: Session, turns: Sequence[Turn]) -> dict[str, Any]:
    """A session as JSON holds it, without its owner."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "session": session_document(session),
        "messages": [turn_document(turn) for turn in turns],
    }


def session_document(session: Session) -> dict[str, Any]:
    """Its properties."""
    return {
        "id": session.id,
        "title": session.title,
        "title_by": session.title_by,
        "tags": list(session.tags),
        "summary": session.summary,
        "created_at": session.created_at.isoformat(),
        "updated_at": session.updated_at.isoformat(),
        "model": session.model,
        "persona": session.persona,
        "context_policy": session.context_policy,
        "head": session.head,
    }


def turn_document(turn: Turn) -> dict[str, Any]:
    """One turn."""
    message = turn.message
    return {
        "id": turn.id,
        "parent": turn.parent,
        "role": message.role,
        "content": message.content,
        "reasoning": turn.reasoning,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
        "state": turn.state,
        "model": turn.model,
        "facts": dict(turn.facts),
        "created_at": turn.created_at.isoformat(),
    }


def to_markdown(session: Session, path: Sequence[Turn]) -> str:
    """One branch, a heading before each turn. A line of a text that looks like such a heading gets a backslash."""
    parts = [f"# {' '.join(session.title.split()) or session.id}\n"]
    if session.tags:
        parts.append(f"{_TAGS}{', '.join(session.tags)}\n")
    if session.summary:
        parts.append(f"{_SUMMARY}{' '.join(session.summary.split())}\n")
    for turn in path:
        content = _LOOKS_LIKE_HEADING.sub(r"\\\g<0>", turn.message.content)
        parts.append(f"## {turn.message.role}\n\n{content}\n")
    return "\n".join(parts)


def read_transcript(text: str) -> Transcript:
    """Read what was exported, or an object with ``messages`` of roles and contents. Raises InvalidRequest."""
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("This is not the JSON of a session.", param="import") from error
        return from_document(document)
    return from_markdown(text)


def from_document(document: Mapping[str, Any]) -> Transcript:
    """Raises InvalidRequest, naming what is wrong."""
    _check_characters(document)
    if document.get("format", FORMAT) != FORMAT or document.get("version", VERSION) != VERSION:
        raise InvalidRequest(f"This is not a {FORMAT} of version {VERSION}.", param="format")
    rows = document.get("messages")
    if not isinstance(rows, list):
        raise InvalidRequest("A session has a list of messages.", param="messages")
    given = document.get("session") or {}
    if not isinstance(given, dict):
        raise InvalidRequest("session must be an object.", param="session")
    changes = Changes(
        title=_text(given, "title", "session"),
        model=_text(given, "model", "session"),
        persona=_text(given, "persona", "session"),
        context_policy=_text(given, "context_policy", "session"),  # type: ignore[arg-type]  # Changes looks
        tags=_tags(given),
        summary=_text(given, "summary", "session") or None,
        title_by=_text(given, "title_by", "session"),  # type: ignore[arg-type]  # Changes looks
    )
    if not any(isinstance(row, dict) and "id" in row for row in rows):
        return Transcript(changes, tuple(chained(None, [_message(row, i) for i, row in enumerate(rows)])))
    turns = [_turn(row, i) for i, row in enumerate(rows)]
    head = given.get("head")
    fresh = reparented(turns)
    end = next((i for i, turn in enumerate(turns) if turn.id == head), len(turns) - 1)
    # The last that is appended is the end of the conversation.
    return Transcript(changes, (*fresh[:end], *fresh[end + 1 :], *fresh[end : end + 1]))


def _check_characters(document: object) -> None:
    """JSON can spell what no database and no answer can hold: halves of characters, NaN, and endless nesting."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The session holds what is no text, or NaN.", param="import") from error


def from_markdown(text: str) -> Transcript:
    """Raises InvalidRequest when there is no turn in it."""
    _check_characters(text)
    title, role = "", None
    tags: tuple[str, ...] | None = None
    summary: str | None = None
    lines: list[str] = []
    messages: list[Message] = []

    def finish() -> None:
        if role is not None:
            messages.append(Message(role, "\n".join(lines).strip("\n")))

    for line in text.replace("\r\n", "\n").split("\n"):
        heading = _HEADING.fullmatch(line)
        if heading is not None:
            finish()
            role, lines = heading[1], []
        elif role is not None:
            lines.append(line.removeprefix("\\") if _LOOKS_LIKE_HEADING.fullmatch(line) else line)
        elif title and tags is None and line.startswith(_TAGS):
            tags = tuple(tag.strip() for tag in line.removeprefix(_TAGS).split(",") if tag.strip())
        elif title and summary is None and line.startswith(_SUMMARY):
            summary = line.removeprefix(_SUMMARY).strip()
        else:
            title = title or line.removeprefix("# ").strip()
    finish()
    if not messages:
        raise InvalidRequest(
            "This is neither the JSON nor the Markdown of a session.",
            param="import",
            hint="A turn begins with a line '## user' or '## assistant'.",
        )
    return Transcript(Changes(title=title[:200], tags=tags, summary=summary), tuple(chained(None, messages)))


def _tags(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    tags = given.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidRequest("session.tags must be a list of texts.", param="session.tags")
    return tuple(tags) or None


def _turn(row: object, i: int) -> Turn:
    message = _message(row, i)
    assert isinstance(row, dict)
    state = row.get("state", "whole")
    facts = row.get("facts") or {}
    if state not in ("whole", "partial") or not isinstance(facts, dict):
        raise InvalidRequest(f"messages.{i} has a state or facts that are none.", param=f"messages.{i}")
    return Turn(
        id=_text(row, "id", f"messages.{i}") or new_turn_id(),
        message=message,
        parent=_text(row, "parent", f"messages.{i}"),
        reasoning=_text(row, "reasoning", f"messages.{i}") or "",
        state=state,
        model=_text(row, "model", f"messages.{i}"),
        facts=facts,
        created_at=_time(row, i),
    )


def _message(row: object, i: int) -> Message:
    place = f"messages.{i}"
    if not isinstance(row, dict):
        raise InvalidRequest(f"{place} must be an object.", param=place)
    calls = row.get("tool_calls") or []
    try:
        return Message(
            _text(row, "role", place),  # type: ignore[arg-type]  # Message itself looks whether it is one
            _text(row, "content", place) or "",
            tool_calls=tuple(ToolCall(str(call["id"]), str(call["name"]), dict(call["arguments"])) for call in calls),
            tool_call_id=_text(row, "tool_call_id", place),
            name=_text(row, "name", place),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{place}.tool_calls are not those of a session.", param=place) from error


def _text(row: Mapping[str, Any], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{place}.{name} must be text.", param=f"{place}.{name}")
    return value


def _time(row: Mapping[str, Any], i: int) -> datetime:
    text = _text(row, "created_at", f"messages.{i}")
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
        moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"messages.{i}.created_at is no time.", param=f"messages.{i}.created_at") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
