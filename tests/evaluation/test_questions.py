"""Tasks are read as they are written, and score what was said."""

from __future__ import annotations

import pytest

from madang.core.errors import InvalidRequest
from madang.evaluation.questions import Question, read_questions


@pytest.mark.parametrize(
    ("said", "score"),
    [("Paris is in FRANCE.", 1.0), ("paris", 0.5), ("Rome", 0.0), ("Ｐａｒｉｓ,  france", 1.0)],
)
def test_keywords_count_by_their_share(said: str, score: float) -> None:
    assert Question("?", keywords=("Paris", "France")).score(said) == score


@pytest.mark.parametrize(("said", "score"), [("  **Paris.** ", 1.0), ("PARIS", 1.0), ("Paris, France", 0.0), ("", 0.0)])
def test_an_exact_answer_is_the_whole_answer(said: str, score: float) -> None:
    assert Question("?", answer="Paris").score(said) == score


def test_korean_is_compared_in_one_form() -> None:
    assert Question("?", keywords=("서울",)).score("수도는 \u1109\u1165\u110b\u116e\u11af입니다") == 1


def test_empty_lines_do_not_count() -> None:
    text = '{"prompt": "1+1?", "answer": "2"}\n\n{"prompt": "sky?", "keywords": ["blue"]}\n'
    assert read_questions(text) == [Question("1+1?", answer="2"), Question("sky?", keywords=("blue",))]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "Line 2 of the tasks is not JSON."),
        ("[1]", "has no prompt"),
        ('{"prompt": " "}', "has no prompt"),
        ('{"prompt": "x"}', "needs either"),
        ('{"prompt": "x", "answer": "y", "keywords": ["z"]}', "needs either"),
        ('{"prompt": "x", "answer": "."}', "an answer that is no text"),
        ('{"prompt": "x", "keywords": []}', "not a list of words"),
        ('{"prompt": "x", "keywords": ["", "a"]}', "not a list of words"),
        ('{"prompt": "x", "anser": "y"}', "'anser', which means nothing"),
    ],
)
def test_a_bad_line_is_named(line: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match="Line 2") as caught:
        read_questions(f'{{"prompt": "a", "answer": "b"}}\n{line}')
    assert problem in caught.value.message


def test_no_task_at_all_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="0 tasks"):
        read_questions("\n")
