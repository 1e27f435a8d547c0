"""Sessions as files: what goes out comes back, and what is no session is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from madang.chat import Changes, Session, Sessions, Turn, chained
from madang.chat.sessions import new_turn_id
from madang.chat.transcripts import read_transcript, to_document, to_markdown
from madang.core import Message, ToolCall
from madang.core.errors import InvalidRequest
from madang.storage import Database


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(Database(tmp_path / "madang.db"))


def branched(sessions: Sessions) -> Session:
    session = sessions.create("laptop", Changes(title="제목", model="m:1", context_policy="drop_oldest"))
    call = Message("assistant", "", tool_calls=(ToolCall("c", "f", {"a": 1}),))
    turns = chained(None, [Message("user", "hi"), call])
    sessions.append("laptop", session.id, turns)
    answer = Message("assistant", "hello")
    other = Turn(id=new_turn_id(), message=answer, parent=turns[0].id, reasoning="hm", state="partial", facts={"a": 1})
    sessions.append("laptop", session.id, [other])
    sessions.go_on_from("laptop", session.id, turns[1].id)
    return sessions.get("laptop", session.id)


def test_json_brings_every_branch_to_its_new_owner(sessions: Sessions) -> None:
    session = branched(sessions)
    turns = sessions.turns("laptop", session.id)
    text = json.dumps(to_document(session, turns), ensure_ascii=False)
    assert "laptop" not in text
    transcript = read_transcript(text)
    copy = sessions.create("phone", transcript.changes, transcript.turns)
    again = sessions.turns("phone", copy.id)
    assert copy.id != session.id
    assert not {turn.id for turn in again} & {turn.id for turn in turns}
    assert (copy.title, copy.model, copy.context_policy) == ("제목", "m:1", "drop_oldest")

    def said(turns: list[Turn]) -> list[tuple[Any, ...]]:
        return sorted((turn.message.content, turn.reasoning, turn.state, len(turn.facts)) for turn in turns)

    assert said(again) == said(turns)
    assert [turn.message for turn in sessions.path("phone", copy.id)] == [
        turn.message for turn in sessions.path("laptop", session.id)
    ]


def test_plain_messages_are_a_session_too() -> None:
    transcript = read_transcript(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    )
    assert [turn.message.content for turn in transcript.turns] == ["a", "b"]
    assert transcript.turns[1].parent == transcript.turns[0].id


@given(
    some.lists(some.sampled_from(["text", "## user", "\\## user", "\\\\## tool", "# x", "", " ## user"]), max_size=6)
)
def test_markdown_keeps_every_text(lines: list[str]) -> None:
    content = "\n".join(lines).strip("\n")
    path = chained(None, [Message("user", content), Message("assistant", "ok")])
    session = Session(id="ses_1", title="A title", created_at=path[0].created_at, updated_at=path[0].created_at)
    transcript = read_transcript(to_markdown(session, path))
    assert transcript.changes.title == "A title"
    assert [turn.message for turn in transcript.turns] == [turn.message for turn in path]


def document(**changes: Any) -> str:
    message = {"id": "a", "role": "user", "content": "x"}
    return json.dumps({"format": "madang-session", "version": 1, "session": {}, "messages": [message]} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "no headings",
        "",
        "{",
        "{" * 100_000,
        "{}",
        document(version=2),
        document(format="other"),
        document(messages=5),
        document(messages=[5]),
        document(session=[1]),
        document(session={"title": 5}),
        document(session={"context_policy": "forget"}),
        document(messages=[{"id": "a", "role": "king", "content": "x"}]),
        document(messages=[{"id": "a", "role": "user", "content": ["x"]}]),
        document(messages=[{"id": "a", "role": "user", "content": "x", "parent": "b"}]),
        document(messages=[{"id": "a", "role": "user", "content": "x", "parent": "a"}]),
        document(messages=[{"id": "a", "role": "user", "content": "x"}] * 2),
        document(messages=[{"id": "a", "role": "user", "content": "x", "created_at": "yesterday"}]),
        document(messages=[{"id": "a", "role": "user", "content": "x", "state": "odd"}]),
        document(messages=[{"id": "a", "role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}]),
        document(messages=[{"id": "a", "role": "assistant", "content": "x", "tool_calls": 7}]),
    ],
)
def test_what_is_no_session_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_transcript(text)


@pytest.mark.parametrize("form", ["json", "markdown"])
def test_tags_and_summary_come_back(sessions: Sessions, form: str) -> None:
    changes = Changes(title="강 > 이야기\n둘", tags=("한강", "Tags: x"), summary="> A summary\nof two lines.")
    session = sessions.create("", changes, chained(None, [Message("user", "Tags: hi\n> there")]))
    turns = sessions.turns("", session.id)
    text = json.dumps(to_document(session, turns)) if form == "json" else to_markdown(session, turns)
    transcript = read_transcript(text)
    copy = sessions.create("", transcript.changes, transcript.turns)
    assert copy.tags == session.tags
    assert " ".join(copy.summary.split()) == " ".join(session.summary.split())
    assert copy.title.split() == session.title.split() and copy.title_by == "person"
    assert sessions.turns("", copy.id)[0].message.content == "Tags: hi\n> there"


def test_who_gave_a_title_is_kept_in_json(sessions: Sessions) -> None:
    session = sessions.create("", turns=chained(None, [Message("user", "hi")]))
    sessions.append("", session.id, chained(None, [Message("user", "hi")]))
    session = sessions.get("", session.id)
    document = to_document(session, sessions.turns("", session.id))
    transcript = read_transcript(json.dumps(document))
    assert sessions.create("", transcript.changes, transcript.turns).title_by == "question"
    for wrong in ({"tags": "x"}, {"tags": [1]}, {"title_by": "nobody"}, {"summary": 5}):
        with pytest.raises(InvalidRequest):
            read_transcript(json.dumps(document | {"session": document["session"] | wrong}))
