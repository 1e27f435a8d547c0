"""Where tokens stand in their text, for every kind of tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.formats.tokenizers.spans import token_spans
from tests.formats.vocabularies import tokenizer

KINDS = ("gpt2", "llama", "t5", "bert")


def pieces(kind: str, text: str) -> list[str]:
    own = tokenizer(kind)
    ids = own.encode(text, add_special=False, parse_special=False)
    return [text[start:end] for start, end in token_spans(own, text, ids)]


def test_tokens_are_parts_of_the_text() -> None:
    assert pieces("gpt2", "hell he h") == ["hell", " ", "he", " h"]
    assert pieces("llama", "abc a") == ["", "abc", " a"]  # it begins with a space that nobody wrote


def test_parts_of_a_character_have_the_character() -> None:
    assert pieces("gpt2", "가h") == ["가", "가", "가", "h"]
    assert pieces("gpt2", "é") == ["é", "é"]
    assert pieces("llama", "나") == ["", *["나"] * 3]  # in bytes, as no piece has it


def test_what_was_changed_before_it_was_cut_is_found() -> None:
    assert pieces("bert", "Playing, RÚN") == ["Play", "ing", ",", " RÚN"]


def test_an_unknown_token_has_what_its_neighbours_leave() -> None:
    assert pieces("bert", "play 고양이 run") == ["play", "고양이", " run"]


def test_no_tokens() -> None:
    for kind in KINDS:
        assert pieces(kind, "") == []


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(alphabet=st.one_of(st.sampled_from("heabc 가각play,\n"), st.characters(codec="utf-8"))))
def test_spans_are_in_order_and_inside(kind: str, text: str) -> None:
    own = tokenizer(kind)
    spans = token_spans(own, text, own.encode(text, add_special=False, parse_special=False))
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    if kind == "gpt2":  # nothing is changed before, so nothing is left out
        assert sorted({place for start, end in spans for place in range(start, end)}) == list(range(len(text)))
