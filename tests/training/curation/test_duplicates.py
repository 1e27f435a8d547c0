"""The first of what is the same stays."""

from __future__ import annotations

import pytest

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.training.curation.duplicates import find_duplicates
from madang.training.examples import Example


def example(line: int, question: str, answer: str) -> Example:
    return Example((Message("user", question), Message("assistant", answer)), line=line)


ROWS = [
    example(1, "Why is the sky blue on a clear day?", "Because air scatters blue light the most."),
    example(2, "why is the sky BLUE on a clear day", "because air scatters blue light the most"),
    example(3, "Why is the sky so blue on a clear day?", "Because air scatters blue light the most."),
    example(4, "Why is the sky blue on a clear day?", "Nobody knows, and that is fine with me."),
    example(5, "How do bees find their way home?", "They remember landmarks and the sun."),
]


def test_the_same_and_nearly_the_same() -> None:
    found = find_duplicates(ROWS, similarity=0.8)
    assert found.is_kept.tolist() == [True, False, False, True, True]
    assert (found.exact, found.near) == (1, 1)
    assert [(shown["line"], shown["as"]) for shown in found.shown] == [(3, 1)]


def test_only_the_same() -> None:
    assert find_duplicates(ROWS, similarity=1).is_kept.tolist() == [True, False, True, True, True]


def test_by_question() -> None:
    assert find_duplicates(ROWS, similarity=0.7, by="question").is_kept.tolist() == [True, False, False, False, True]


def test_what_makes_no_sense() -> None:
    with pytest.raises(InvalidRequest):
        find_duplicates(ROWS, similarity=0)
    with pytest.raises(InvalidRequest):
        find_duplicates(ROWS, by="title")  # type: ignore[arg-type]
