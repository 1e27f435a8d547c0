"""Passages are the same for every model, and hold all of a text."""

from __future__ import annotations

import pytest

from madang.core.errors import InvalidRequest
from madang.evaluation.texts import PASSAGE_BYTES, built_in_text, text_of


def test_the_built_in_text_is_english_and_korean() -> None:
    text = built_in_text()
    assert text.parts == ("English", "Korean")
    for part in text.parts:
        sizes = [passage.n_bytes for passage in text.passages if passage.part == part]
        assert sum(sizes) > 5000
        assert len(sizes) >= 8
    korean = "".join(passage.text for passage in text.passages if passage.part == "Korean")
    assert sum("가" <= letter <= "힣" for letter in korean) > len(korean) / 2


def test_nothing_is_lost_and_nothing_is_too_long() -> None:
    words = " ".join(f"Sentence {number} is here." for number in range(200)) + " 한국어도 있다. " * 100 + "x" * 3000
    text = text_of("own", words, at_most=10_000)
    joined = "".join("".join(passage.text.split()) for passage in text.passages)
    assert joined == "".join(words.split())
    assert max(passage.n_bytes for passage in text.passages) <= PASSAGE_BYTES + 3 * PASSAGE_BYTES // 2


def test_passages_are_spread_over_a_long_text() -> None:
    words = " ".join(f"Sentence {number} is here." for number in range(2000))
    some = text_of("own", words, at_most=4).passages
    assert len(some) == 4
    assert some[0].text.startswith("Sentence 0 ")
    assert int(some[3].text.split()[1]) > 1400


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="holds no text"):
        text_of("own", " \n ")
