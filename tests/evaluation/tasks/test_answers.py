"""Answers in words: what counts as the same, and what is taken out of a text."""

from __future__ import annotations

from typing import Any

import pytest

from madang.core.errors import InvalidRequest
from madang.evaluation.tasks import Item, Response
from madang.evaluation.tasks.answers import GSM8K, QuestionAnswering
from madang.evaluation.tasks.normal import is_same_answer, normal_answer, overlap_f1
from madang.evaluation.tasks.task import Graded, Shots


@pytest.mark.parametrize(
    ("said", "right", "is_same"),
    [
        ("The Beatles!", "beatles", True),
        ("서울입니다.", "서울", True),
        ("서울은", "서울", True),
        ("대한 민국", "대한민국", True),
        ("\u1109\u1165\u110b\u116e\u11af", "서울", True),
        ("서울역", "서울", False),
        ("서", "서울", False),
        ("", "서울", False),
        ("a", "the", False),
        ("Paris, France", "Paris", False),
        ("１９９８년", "1998년", True),
    ],
)
def test_spelling_and_endings_do_not_change_an_answer(said: str, right: str, is_same: bool) -> None:
    assert is_same_answer(said, right) is is_same


def test_f1_counts_words_and_in_korean_characters() -> None:
    assert normal_answer("  An “Apple”, a day ") == "apple day"
    assert overlap_f1("red apple", "the apple") == pytest.approx(2 / 3)
    assert overlap_f1("서울시", "서울") == pytest.approx(4 / 5)
    assert overlap_f1("nothing", "서울") == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("So 3 + 4 = 7.", "7"),
        ("It costs $1,234.00", "1234.00"),
        ("-5", "-5"),
        ("none", ""),
        ("#### 42", "42"),
        ("2 or 12.", "12"),
    ],
)
def test_the_last_number_is_the_answer(text: str, said: str) -> None:
    assert GSM8K("x", lambda: []).said(Item("0", {}), Response(text=text)) == said


def test_word_problems_have_a_marked_figure_beside() -> None:
    row = {"question": "How many?", "answer": "1 + 1 = 2\n#### 1,002"}
    task = GSM8K("x", lambda: [row], Shots((row,)))
    (item,) = task.items()
    assert task.prompt(item).request.prompt == (
        "Question: How many?\nAnswer: 1 + 1 = 2\n#### 1,002\n\nQuestion: How many?\nAnswer:"
    )
    graded = [Graded(item, Response(text=text), 0.0) for text in ("#### 1002\nThen 5", "It is 1002")]
    assert [task.score(item, own.response) for own in graded] == [0, 1]
    assert task.also(graded)["exact_match_marked"]["value"] == 0.5
    with pytest.raises(InvalidRequest, match="####"):
        task.score(Item("0", {"question": "?", "answer": "2"}), Response(text="2"))


SQUAD = {"paragraphs": [{"context": "서울은 수도다.", "qas": [{"question": "수도는?", "answers": [{"text": "서울"}]}]}]}


@pytest.mark.parametrize(
    ("row", "prompt", "right"),
    [
        (
            {"question": "Who?", "answer": {"value": "Ann", "aliases": ["Anna"]}},
            "Question: Who?\nAnswer:",
            "anna",
        ),
        ({"Question": "Who?", "Answer": {"Value": "Ann", "Aliases": []}}, "Question: Who?\nAnswer:", "Ann"),
        ({"question": "누구?", "answers": {"text": ["앤"]}}, "질문: 누구?\n답:", "앤이다"),
        ({"question": "Who?", "answer": "Ann", "context": "Ann came."}, "Ann came.\nQuestion: Who?\nAnswer:", "Ann"),
        (SQUAD, "서울은 수도다.\n질문: 수도는?\n답:", "서울"),
    ],
)
def test_questions_are_read_as_they_are_published(row: dict[str, Any], prompt: str, right: str) -> None:
    task = QuestionAnswering("x", lambda: [row])
    (item,) = task.items()
    assert task.prompt(item).request.prompt == prompt
    response = Response(text=f" {right}\nQuestion: more")
    assert task.said(item, response) == right
    assert task.score(item, response) == 1
    assert task.also([Graded(item, response, 1.0)])["f1"]["value"] >= 0.5
    assert task.score(item, Response(text="somebody else")) == 0


def test_a_question_without_an_answer_is_refused() -> None:
    task = QuestionAnswering("x", lambda: [{"question": "?", "answer": [" "]}])
    with pytest.raises(InvalidRequest, match="no answer"):
        task.score(task.items()[0], Response(text="x"))
