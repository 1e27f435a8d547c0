"""What speaks for an answer: words that tell something, in one chunk, in collections of any size."""

from __future__ import annotations

import pytest

from madang.rag.relevance import COSINE_FLOOR, is_near, telling_part


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


def test_a_model_that_cannot_read_the_question_says_nothing() -> None:
    assert not is_near(None)
    assert is_near(COSINE_FLOOR)
    assert not is_near(COSINE_FLOOR - 0.01)
