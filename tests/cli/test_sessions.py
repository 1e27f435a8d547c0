"""Conversations that are kept, from the command line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from madang.chat import Changes, Sessions, chained
from madang.cli.answering import AnswerOptions
from madang.cli.chat import Chat
from madang.cli.keeping import open_session
from madang.core import Message
from madang.core.errors import InvalidRequest
from madang.engines.echo import EchoEngine
from madang.storage import Database
from tests.cli.conftest import Madang
from tests.cli.test_chat import CTRL_C, Person

SAID = [Message("user", "서울의 강은?"), Message("assistant", "한강")]


@pytest.fixture
def sessions(home: Path) -> Sessions:
    return Sessions(Database(home / "madang.db"))


def test_a_session_from_list_to_rm(madang: Madang, sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.create("", Changes(title="river", model="m:1"), chained(None, SAID))
    assert session.id in madang("sessions", "list").out
    assert [one["title"] for one in madang("sessions", "list", "한강", "--json").json()["sessions"]] == ["river"]
    assert madang("sessions", "list", "nothing", "--json").json() == {"sessions": []}
    assert madang("sessions", "show", "river").out == "# river\n\n## user\n\n서울의 강은?\n\n## assistant\n\n한강\n"
    shown = madang("sessions", "show", session.id, "--json").json()
    assert [message["content"] for message in shown["messages"]] == ["서울의 강은?", "한강"]
    file = tmp_path / "river.json"
    assert madang("sessions", "export", "river", "-o", str(file)).status == 0
    assert madang("sessions", "export", "river", "-o", str(file)).status == 2
    assert madang("sessions", "rm", "river").status == 0
    assert madang("sessions", "show", "river").status == 2
    imported = madang("sessions", "import", str(file))
    assert imported.status == 0
    path = sessions.path("", imported.out.strip())
    assert [turn.message for turn in path] == SAID


def test_a_pipe_from_export_to_import(madang: Madang, sessions: Sessions) -> None:
    session = sessions.create("laptop", Changes(title="river"), chained(None, SAID))
    exported = madang("sessions", "export", session.id, "--format", "markdown", "--key", "laptop")
    imported = madang("sessions", "import", "-", "--json", stdin=exported.out.encode())
    assert imported.json()["title"] == "river"
    assert [turn.message for turn in sessions.path("", imported.json()["id"])] == SAID


def test_sessions_of_a_key_are_asked_for_by_its_name(madang: Madang, sessions: Sessions) -> None:
    session = sessions.create("laptop", Changes(title="private"))
    listed = madang("sessions", "list")
    assert listed.out == ""
    assert "laptop" in listed.err
    assert madang("sessions", "rm", session.id).status == 2
    assert session.id in madang("sessions", "list", "--key", "laptop").out


@pytest.mark.parametrize(
    "args",
    [
        ("show", "nothing"),
        ("rm", "nothing"),
        ("export", "nothing"),
        ("import", "/nowhere.json"),
        ("export", "river", "--format", "pdf"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(madang: Madang, sessions: Sessions, args: tuple[str, ...]) -> None:
    sessions.create("", Changes(title="river"))
    result = madang("sessions", *args)
    assert result.status == 2
    assert result.err.startswith("Error: ")


def test_what_is_no_session_is_not_imported(madang: Madang, sessions: Sessions) -> None:
    for stdin in (b"", b"\xff\xfe", b'{"messages": 5}', b"hello"):
        assert madang("sessions", "import", "-", stdin=stdin).status == 2
    assert sessions.find("") == []


def test_a_database_of_a_newer_version(madang: Madang, sessions: Sessions, home: Path) -> None:
    sessions.create("")
    with sqlite3.connect(home / "madang.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    result = madang("sessions", "list")
    assert result.status == 1
    assert "a newer madang wrote" in result.err


# ---- chats


def talk(home: Path, name: str | None, *lines: str | type[BaseException]) -> Chat:
    keeper = open_session(home, name)
    chat = Chat(EchoEngine("twin"), AnswerOptions(), Person(*lines), keeper=keeper)
    chat.run()
    return chat


def test_a_chat_goes_on_where_it_ended(home: Path, sessions: Sessions) -> None:
    talk(home, "river", "one", "two")
    again = talk(home, "river", "three")
    assert [message.content for message in again.messages] == ["one", "one", "two", "two", "three", "three"]
    last = talk(home, None)
    assert len(last.messages) == 6
    (session,) = sessions.find("")
    path = sessions.path("", session.id)
    assert (session.title, session.model, len(path)) == ("river", "twin", 6)
    assert path[1].facts["usage"]["completion_tokens"] > 0


def test_clear_begins_a_branch(home: Path, sessions: Sessions) -> None:
    talk(home, "river", "one", "/clear", "two")
    (session,) = sessions.find("")
    assert [turn.message.content for turn in sessions.path("", session.id)] == ["two", "two"]
    assert len(sessions.turns("", session.id)) == 4


def test_there_is_nothing_to_go_on_with(home: Path, madang: Madang) -> None:
    with pytest.raises(InvalidRequest, match="no session to go on with"):
        open_session(home, None)
    assert madang("run", "smollm2:135m", "--session", "x", "a prompt").status == 2


def test_a_chat_goes_on_without_a_database(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file in the way")
    chat = talk(home, "river", "one", CTRL_C, "two")
    assert [message.content for message in chat.messages] == ["one", "one", "two", "two"]
    assert "not kept" in capsys.readouterr().err
