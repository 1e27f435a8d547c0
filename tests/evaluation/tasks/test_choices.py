"""Multiple choice: prompts are fixed, in each form that data is published in, and the likeliest choice counts."""

from __future__ import annotations

from typing import Any

import pytest

from madang.core import Scored
from madang.core.errors import InvalidRequest
from madang.evaluation.tasks import Item, Response
from madang.evaluation.tasks.benchmarks import ARC, KMMLU, MMLU, HaeRae, HellaSwag
from madang.evaluation.tasks.choices import ChoiceTask, macro_f1
from madang.evaluation.tasks.kobest import COPA, BoolQ, SentiNeg, WiC
from madang.evaluation.tasks.kobest import HellaSwag as KoreanHellaSwag
from madang.evaluation.tasks.task import Graded, Shots


def scored(*logprobs: float) -> Response:
    return Response(scored=tuple(Scored(logprob, 1, False) for logprob in logprobs))


def asked(kind: type[ChoiceTask], row: dict[str, Any]) -> tuple[str | None, tuple[str, ...], int]:
    """Context, continuations and the right one."""
    task = kind("x", lambda: [row])
    (item,) = task.items()
    prompt = task.prompt(item)
    return prompt.request.prompt, prompt.continuations, task.label(row)


MMLU_TEXT = "What?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
LETTERS = (" A", " B", " C", " D")


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (
            MMLU,
            {"question": " What? ", "choices": ["one", "two", "three", "four"], "answer": 2},
            (MMLU_TEXT, LETTERS, 2),
        ),
        (
            MMLU,
            {"question": "What?", "A": "one", "B": "two", "C": "three", "D": "four", "answer": "B"},
            (MMLU_TEXT, LETTERS, 1),
        ),
        (
            KMMLU,
            {"question": "무엇?", "A": "가", "B": "나", "C": "다", "D": "라", "answer": 4},
            ("무엇?\nA. 가\nB. 나\nC. 다\nD. 라\n정답：", LETTERS, 3),
        ),
        (HaeRae, {"query": "질문?", "answer": "(C)"}, ("질문?", (" (A)", " (B)", " (C)", " (D)", " (E)"), 2)),
        (
            ARC,
            {"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
            ("Question: Why?\nAnswer:", (" x", " y"), 1),
        ),
        (
            ARC,
            {
                "question": {"stem": "Why?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
                "answerKey": "A",
            },
            ("Question: Why?\nAnswer:", (" x", " y"), 0),
        ),
        (
            HellaSwag,
            {
                "activity_label": "Cooking",
                "ctx_a": "A man cooks. [title] Then",
                "ctx_b": "he",
                "endings": ["eats. [substeps] Well", "runs."],
                "label": "0",
            },
            ("Cooking: A man cooks.. Then He", (" eats. Well", " runs."), 0),
        ),
        (
            BoolQ,
            {"Text": "글.", "Question": "맞나?", "Answer": "TRUE"},
            ("글. 질문: 맞나? 답변:", ("  아니오", "  예"), 1),
        ),
        (
            BoolQ,
            {"paragraph": "글.", "question": "맞나?", "label": 0},
            ("글. 질문: 맞나? 답변:", ("  아니오", "  예"), 0),
        ),
        (
            COPA,
            {"sentence": "비가 왔다.", "question": "결과", "1": "젖었다.", "2": "말랐다.", "Answer": "1"},
            ("비가 왔다.  그래서", (" 젖었다.", " 말랐다."), 0),
        ),
        (
            COPA,
            {"premise": "젖었다.", "question": "원인", "alternative_1": "해.", "alternative_2": "비.", "label": 1},
            ("젖었다.  왜냐하면", (" 해.", " 비."), 1),
        ),
        (
            KoreanHellaSwag,
            {"context": "앞.", "choice1": "가", "choice2": "나", "choice3": "다", "choice4": "라", "label": "3"},
            ("문장: 앞.", (" 가", " 나", " 다", " 라"), 3),
        ),
        (SentiNeg, {"Text": "좋아요", "Label": "1"}, ("문장: 좋아요 긍부정:", (" 부정", " 긍정"), 1)),
        (
            WiC,
            {"SENTENCE1": "가.", "SENTENCE2": "나.", "Target": "배", "ANSWER": "False"},
            ("문장1: 가. 문장2: 나. 두 문장에서 배가 같은 뜻으로 쓰였나?", (" 아니오", " 예"), 0),
        ),
    ],
)
def test_prompts_are_these(kind: type[ChoiceTask], row: dict[str, Any], expected: Any) -> None:
    assert asked(kind, row) == expected


def test_the_likeliest_choice_is_the_answer_and_length_may_count() -> None:
    task = KoreanHellaSwag("x", lambda: [])
    row = {
        "context": "",
        "choice1": "가나다라마바사아",
        "choice2": "나",
        "choice3": "다",
        "choice4": "라",
        "label": "0",
    }
    item, response = Item("0", row), scored(-4.0, -3.0, -9.0, -9.0)
    assert task.score(item, response) == 0
    assert task.said(item, response) == "나"
    also = task.also([Graded(item, response, 0.0)])
    assert also["accuracy_by_length"]["value"] == 1
    assert also["macro_f1"]["value"] == 0


def test_examples_stand_before_the_question() -> None:
    rows = [{"Text": "좋다", "Label": "1"}]
    task = SentiNeg("x", lambda: rows, Shots(({"Text": "나쁘다", "Label": "0"},), "읽고 답하라.\n"))
    prompt = task.prompt(task.items()[0]).request.prompt
    assert prompt == "읽고 답하라.\n문장: 나쁘다 긍부정: 부정\n\n문장: 좋다 긍부정:"


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        (MMLU, {"question": "?", "choices": ["a", "b", "c", "d"], "answer": 4}, "names none of 4"),
        (MMLU, {"question": "?", "choices": ["a", "b", "c", "d"], "answer": ""}, "names none of 4"),
        (MMLU, {"choices": ["a", "b", "c", "d"], "answer": 1}, "no 'question'"),
        (KMMLU, {"question": "?", "A": "", "B": "", "C": "", "D": "", "answer": 0}, "names none"),
        (COPA, {"sentence": ".", "question": "왜", "1": "a", "2": "b", "Answer": "1"}, "neither 원인 nor 결과"),
        (BoolQ, {"Text": "a", "Question": "b", "Answer": "maybe"}, "neither true nor false"),
        (ARC, {"question": "q", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "E"}, "names none of A"),
    ],
)
def test_a_row_that_is_not_of_the_task_is_named(kind: type[ChoiceTask], row: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        asked(kind, row)


def test_macro_f1_is_the_mean_over_classes() -> None:
    assert macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert macro_f1([0, 1], [0, 0]) == pytest.approx((2 / 3 + 0) / 2)
