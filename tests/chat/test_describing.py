"""What a session is about: when its model is asked, and what of its answer is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from madang.chat import Description, ask_for_description, is_due, read_description
from madang.chat.describing import MOST_TAGS
from madang.core import Message, Request

RIVER = (
    Message("system", "You are a geographer of Mars."),
    Message("user", "Which river flows through Seoul, and how long is it?"),
    Message("assistant", "The Han flows through Seoul; it is 494 km long."),
)
KOREAN = (
    Message("user", "서울을 지나는 강은 무엇인가요?"),
    Message("assistant", "서울을 지나는 강은 한강입니다."),
)


def said(title: Any = "", tags: Any = (), summary: Any = "") -> str:
    return json.dumps({"title": title, "tags": list(tags) if isinstance(tags, tuple) else tags, "summary": summary})


def test_a_conversation_is_described_once_and_again_when_it_has_grown() -> None:
    assert [is_due(n, 0) for n in (0, 1, 2)] == [False, True, True]
    assert [is_due(n, 1) for n in (1, 2, 3, 4, 5)] == [False, False, False, True, True]


def test_it_is_asked_behind_the_conversation_itself_and_lets_others_go_first() -> None:
    asked = ask_for_description(Request(messages=RIVER, stop=("x",), max_tokens=3))
    assert asked.messages[:-1] == RIVER and asked.messages[-1].role == "user"
    assert asked.priority == "background" and asked.stop == () and (asked.max_tokens or 0) > 100
    assert asked.constraint is not None


def test_a_good_description_is_taken() -> None:
    answer = said(
        "  River through Seoul.", ("rivers", "Seoul", "seoul"), "The river that flows through Seoul is the Han."
    )
    found = read_description(answer, RIVER)
    assert found == Description(
        "River through Seoul", ("rivers", "seoul"), "The river that flows through Seoul is the Han"
    )
    korean = read_description(said("서울의 강", ("서울", "한강"), "서울을 지나는 강에 대한 대화"), KOREAN)
    assert korean.title == "서울의 강" and "서울" in korean.tags


@pytest.mark.parametrize(
    "title",
    [
        "",
        "...",
        "x" * 61,
        "river " * 8,
        "<|im_end|> Seoul river",
        "A title of a few words",
        "Describe our conversation",
        "Cooking pasta at home",
        "Geographer of Mars",  # the system's words are not the conversation's
        "The of is it",
        None,
        7,
        ["Seoul"],
    ],
)
def test_a_bad_title_is_not_taken(title: Any) -> None:
    assert read_description(said(title), RIVER).title is None


def test_tags_are_few_and_of_the_conversation() -> None:
    tags = ("json", "title", "Seoul", "x" * 30, "", 5, "river", "flows", "which", "through", "long river")
    found = read_description(said("", tags), RIVER).tags
    assert found == ("Seoul", "river", "flows", "which", "through")
    assert len(found) == MOST_TAGS
    assert read_description(said("", "Seoul"), RIVER).tags == ()


@pytest.mark.parametrize("answer", ["", "{", "[]", "5", '{"title"', "[" * 100_000])
def test_what_is_not_as_asked_for_is_nothing(answer: str) -> None:
    assert read_description(answer, RIVER) == Description()
