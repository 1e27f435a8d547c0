"""Sessions: a tree of turns, one end, one owner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madang.chat import Changes, Description, Persona, Personas, Sessions, Turn, chained
from madang.chat.sessions import MOST_TURNS, new_turn_id, title_of
from madang.core import Message, ToolCall
from madang.core.errors import InvalidRequest, NotFound
from madang.storage import Database

ASKED, SAID = Message("user", "What is 2+2?"), Message("assistant", "4")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "madang.db")


@pytest.fixture
def sessions(database: Database) -> Sessions:
    return Sessions(database)


def contents(turns: list[Turn]) -> list[str]:
    return [turn.message.content for turn in turns]


def test_what_is_kept_comes_back(sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.create("", Changes(model="m:1", context_policy="summarise"))
    call = Message("assistant", "", tool_calls=(ToolCall("c1", "add", {"a": 2, "이름": "값"}),))
    turns = chained(None, [ASKED, call, Message("tool", "4", tool_call_id="c1", name="add")])
    answer = Turn(
        id=new_turn_id(),
        message=SAID,
        parent=turns[-1].id,
        reasoning="two and two",
        state="partial",
        model="m:1",
        facts={"usage": {"prompt_tokens": 3}},
    )
    sessions.append("", session.id, [*turns, answer])
    again = Sessions(Database(tmp_path / "madang.db"))
    assert again.path("", session.id) == [*turns, answer]
    kept = again.get("", session.id)
    assert (kept.title, kept.model, kept.context_policy) == ("What is 2+2?", "m:1", "summarise")
    assert kept.head == answer.id
    assert kept.updated_at > session.updated_at


def test_an_edit_is_a_branch_and_the_old_one_stays(sessions: Sessions) -> None:
    session = sessions.create("", turns=chained(None, [ASKED, SAID]))
    first = sessions.path("", session.id)
    other = chained(first[0].parent, [Message("user", "And 3+3?"), Message("assistant", "6")])
    sessions.append("", session.id, other)
    assert contents(sessions.path("", session.id)) == ["And 3+3?", "6"]
    assert contents(sessions.path("", session.id, first[1].id)) == ["What is 2+2?", "4"]
    assert len(sessions.turns("", session.id)) == 4
    sessions.go_on_from("", session.id, first[0].id)
    regenerated = chained(first[0].id, [Message("assistant", "four")])
    sessions.append("", session.id, regenerated)
    assert contents(sessions.path("", session.id)) == ["What is 2+2?", "four"]
    sessions.go_on_from("", session.id, None)
    assert sessions.path("", session.id) == []


def test_keeping_a_turn_twice_changes_nothing(sessions: Sessions) -> None:
    session = sessions.create("")
    turns = chained(None, [ASKED, SAID])
    sessions.append("", session.id, turns[:1])
    sessions.append("", session.id, turns)
    assert sessions.turns("", session.id) == turns


def test_search_finds_all_words_in_titles_and_texts(sessions: Sessions) -> None:
    korean = sessions.create("", turns=chained(None, [Message("user", "서울의 날씨는 어때?")]))
    english = sessions.create("", Changes(title="The weather"), chained(None, [Message("user", "100% rain_or shine?")]))
    assert [one.id for one in sessions.find("", "날씨")] == [korean.id]
    assert [one.id for one in sessions.find("", "weather RAIN")] == [english.id]
    assert [one.id for one in sessions.find("", "100%")] == [english.id]
    assert sessions.find("", "r_in") == []
    assert sessions.find("", "0% sunny") == []
    assert {one.id for one in sessions.find("")} == {korean.id, english.id}


def test_pages_of_a_list(sessions: Sessions) -> None:
    ids = [sessions.create("", Changes(title=str(i))).id for i in range(5)]
    first = sessions.find("", limit=2)
    rest = sessions.find("", before=first[-1].updated_at.timestamp())
    assert [one.id for one in [*first, *rest]] == ids[::-1]


def test_deleting_takes_everything_along(sessions: Sessions, database: Database) -> None:
    session = sessions.create("", turns=chained(None, [ASKED, SAID]))
    sessions.keep_summary("", session.id, "digest", "short")
    sessions.remove("", session.id)
    for table in ("sessions", "messages", "summaries"):
        count = database.read(
            lambda connection, table=table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        )
        assert count == 0


DEEDS: dict[str, Callable[[Sessions, str, str], Any]] = {
    "get": lambda sessions, owner, id: sessions.get(owner, id),
    "path": lambda sessions, owner, id: sessions.path(owner, id),
    "turns": lambda sessions, owner, id: sessions.turns(owner, id),
    "summaries": lambda sessions, owner, id: sessions.summaries(owner, id),
    "change": lambda sessions, owner, id: sessions.change(owner, id, Changes(title="mine now")),
    "append": lambda sessions, owner, id: sessions.append(owner, id, chained(None, [SAID])),
    "go_on_from": lambda sessions, owner, id: sessions.go_on_from(owner, id, None),
    "keep_summary": lambda sessions, owner, id: sessions.keep_summary(owner, id, "d", "x"),
    "remove": lambda sessions, owner, id: sessions.remove(owner, id),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("stranger", ["", "phone", "lap%", "LAPTOP"])
def test_nobody_else_reaches_a_session(sessions: Sessions, deed: str, stranger: str) -> None:
    session = sessions.create("laptop", turns=chained(None, [ASKED, SAID]))
    before = (sessions.get("laptop", session.id), sessions.turns("laptop", session.id))
    with pytest.raises(NotFound) as refusal:
        DEEDS[deed](sessions, stranger, session.id)
    assert str(refusal.value) == f"There is no session '{session.id}'."
    assert (sessions.get("laptop", session.id), sessions.turns("laptop", session.id)) == before
    assert sessions.summaries("laptop", session.id) == {}
    assert sessions.find(stranger) == []
    assert sessions.find(stranger, "2+2") == []


def test_a_turn_of_another_session_is_no_turn_of_this_one(sessions: Sessions) -> None:
    theirs = sessions.create("laptop", turns=chained(None, [ASKED, SAID]))
    mine = sessions.create("phone")
    assert theirs.head is not None
    with pytest.raises(NotFound):
        sessions.path("phone", mine.id, theirs.head)
    with pytest.raises(NotFound):
        sessions.go_on_from("phone", mine.id, theirs.head)
    sessions.append("phone", mine.id, chained(theirs.head, [SAID]))  # a parent that is not there ends the path
    assert contents(sessions.path("phone", mine.id)) == ["4"]


def test_what_makes_no_sense_is_refused(sessions: Sessions) -> None:
    with pytest.raises(InvalidRequest, match="at most 200 characters"):
        Changes(title="x" * 201)
    with pytest.raises(InvalidRequest, match="strict, drop_oldest, summarise"):
        Changes(context_policy="forget")  # type: ignore[arg-type]
    session = sessions.create("")
    with pytest.raises(InvalidRequest, match="at most 20000 messages"):
        sessions.append("", session.id, chained(None, [SAID] * (MOST_TURNS + 1)))
    assert sessions.turns("", session.id) == []


def test_titles() -> None:
    assert title_of("  one\n two ") == "one two"
    assert title_of("word " * 30) == "word " * 11 + "word…"
    assert len(title_of("가" * 100)) == 61


def test_personas_have_owners_too(database: Database) -> None:
    personas = Personas(database)
    tutor = Persona(name="tutor", style="Ask back.", system="You teach.", model="m:1", collections=("books",))
    personas.put("laptop", tutor)
    assert personas.get("laptop", "tutor") == tutor
    assert tutor.prompt == "You teach.\n\nAsk back."
    assert Persona(name="plain").prompt is None
    for deed in (personas.get, personas.remove):
        with pytest.raises(NotFound):
            deed("phone", "tutor")
    assert personas.list("phone") == []
    personas.put("phone", Persona(name="tutor", system="Mine."))
    assert personas.get("laptop", "tutor").system == "You teach."
    personas.put("laptop", Persona(name="tutor", system="Anew."))
    assert [one.system for one in personas.list("laptop")] == ["Anew."]
    personas.remove("laptop", "tutor")
    assert personas.list("laptop") == []
    with pytest.raises(InvalidRequest):
        Persona(name=" ")
    with pytest.raises(InvalidRequest):
        Persona(name="x", style="y" * 2001)


# ---- what a session is about


def test_a_description_gives_what_nobody_gave(sessions: Sessions) -> None:
    session = sessions.create("", turns=chained(None, [ASKED, SAID]))
    sessions.append("", session.id, chained(None, [ASKED]))
    before = sessions.get("", session.id)
    assert (before.title, before.title_by, before.described) == ("What is 2+2?", "question", 0)
    sessions.describe("", session.id, Description("Sums", ("math", "합"), "A sum."), 1)
    found = sessions.get("", session.id)
    assert (found.title, found.title_by, found.tags, found.summary) == ("Sums", "model", ("math", "합"), "A sum.")
    assert found.described == 1 and found.updated_at == before.updated_at
    sessions.describe("", session.id, Description("Other", ("more",), "Longer."), 4)
    grown = sessions.get("", session.id)
    assert (grown.title, grown.tags, grown.summary, grown.described) == ("Sums", ("more",), "Longer.", 4)
    sessions.describe("", session.id, Description(), 16)
    assert sessions.get("", session.id).tags == ("more",)


def test_what_a_person_says_stays(sessions: Sessions) -> None:
    session = sessions.create("", Changes(title="Mine", tags=("own",)))
    sessions.describe("", session.id, Description("Theirs", ("theirs",), "A summary."), 1)
    found = sessions.get("", session.id)
    assert (found.title, found.title_by, found.tags, found.summary) == ("Mine", "person", ("own",), "A summary.")
    sessions.change("", session.id, Changes(title=""))
    sessions.append("", session.id, chained(None, [ASKED]))
    assert sessions.get("", session.id).title == "What is 2+2?"
    sessions.describe("", session.id, Description("Theirs"), 4)
    assert sessions.get("", session.id).title == "Theirs"
    with pytest.raises(NotFound):
        sessions.describe("other", session.id, Description("x"), 1)


def test_sessions_are_found_by_their_tags(sessions: Sessions) -> None:
    one = sessions.create("", Changes(tags=("한강", "rivers")))
    sessions.create("", Changes(tags=("cooking",)))
    assert [found.id for found in sessions.find("", "한강")] == [one.id]
    assert [found.id for found in sessions.find("", "RIVER")] == [one.id]


@pytest.mark.parametrize(
    "wrong",
    [{"tags": ("",)}, {"tags": ("x" * 41,)}, {"tags": ("x",) * 17}, {"summary": "x" * 2001}, {"title_by": "nobody"}],
)
def test_descriptions_have_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Changes(**wrong)
