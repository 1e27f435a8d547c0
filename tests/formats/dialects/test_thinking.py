"""Reasoning before an answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.formats.dialects import hermes
from tests.formats.dialects.reading import THINK, Folded, cut, fold


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>\nhm, 음\n</think>\n\nYes.", "hm, 음", "Yes."),
        ("<think></think>Yes.", "", "Yes."),
        ("<think>\n\n</think>\n\nYes.", "", "Yes."),
        (" <think>a</think>", "a", ""),
        ("<think>never ends </thin", "never ends </thin", ""),
        ("<think>a <think> b</think> c </think> d", "a <think> b", "c </think> d"),
        ("No <think>a</think>", "", "No <think>a</think>"),
        ("<thi", "", "<thi"),
        ("", "", ""),
        ("</think>a", "", "</think>a"),
    ],
)
def test_reasoning_is_kept_apart(text: str, reasoning: str, rest: str) -> None:
    assert fold([text], None, thinking=THINK) == fold(text, None, thinking=THINK) == Folded(rest, reasoning)


def test_a_prompt_may_have_opened_it() -> None:
    for pieces in (["hm\n</think>\n\nYes."], list("hm\n</think>\n\nYes.")):
        assert fold(pieces, None, thinking=THINK, thinking_is_open=True) == Folded("Yes.", "hm")


def test_a_call_in_the_reasoning_is_none_and_one_behind_it_is() -> None:
    call = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    folded = fold(f"<think>{call}</think>\n{call}", hermes.SYNTAX, thinking=THINK)
    assert folded == Folded("", call, (("add", {}),), ("call_0",))


@given(st.data(), st.booleans())
@settings(max_examples=200)
def test_the_cuts_do_not_matter(data: st.DataObject, is_open: bool) -> None:
    parts = st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", " ", "\n", "a", "가", "<tool_call>"])
    text = "".join(data.draw(st.lists(parts, max_size=14)))
    whole = fold([text], hermes.SYNTAX, thinking=THINK, thinking_is_open=is_open)
    assert fold(data.draw(cut(text)), hermes.SYNTAX, thinking=THINK, thinking_is_open=is_open) == whole
