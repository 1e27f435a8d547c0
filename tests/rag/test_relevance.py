"""What speaks for an answer: words that tell something, in one chunk, in collections of any size."""

from __future__ import annotations

import pytest

from madang.rag.relevance import COSINE_FLOORS, is_covered, is_near, telling_part


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("소유권이란 무엇인가요?", ["소유권이란"]),
        ("파일을 읽으려면 어떻게 해야 하나요?", ["파일을", "읽으려면"]),
        ("매개변수에 대해 알려 주세요.", ["매개변수에", "대해"]),
        ("What did the designer say about the battery?", ["designer", "battery"]),
        ("if 표현식은 어떻게 쓰나요?", ["if", "표현식은"]),
        ("What is it?", ["What", "is", "it"]),
        ("왜?", ["왜"]),
    ],
)
def test_words_that_only_ask_are_left_out_unless_there_are_no_others(question: str, left: list[str]) -> None:
    assert telling_part(question).replace("?", " ").replace(".", " ").split() == left


def test_a_model_says_something_where_its_cosines_were_measured() -> None:
    floor = COSINE_FLOORS["all-minilm:l6"]
    assert is_near(floor, "all-minilm:l6")
    assert not is_near(floor - 0.01, "all-minilm:l6")
    assert not is_near(None, "all-minilm:l6")
    assert not is_near(0.9, "multilingual-e5:small")


def test_the_share_of_words_that_is_enough_depends_on_what_words_are() -> None:
    assert is_covered(0.32, "bigrams", "배는 언제 떠나나요?")
    assert not is_covered(0.32, "kiwi", "배는 언제 떠나나요?")
    assert not is_covered(0.32, "bigrams", "When does the ferry leave?")
