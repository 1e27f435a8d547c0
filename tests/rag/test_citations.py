"""Marks in an answer: what stays, what goes, and that pieces of a stream make no difference."""

from __future__ import annotations

import pytest

from madang.rag.citations import Marks, support

SOURCES = {
    1: "소유권은 러스트 프로그램의 메모리 관리법을 지배하는 규칙 모음입니다.",
    2: "The committee decided to raise the budget for schools by three percent.",
    3: "Pigeons breed in towns all year round.",
}


def read(answer: str, size: int = 10_000) -> tuple[str, set[int]]:
    marks = Marks(SOURCES)
    shown = "".join(marks.push(answer[i : i + size]) for i in range(0, len(answer), size)) + marks.flush()
    return shown, marks.cited


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    ("answer", "shown", "cited"),
    [
        ("The committee raised the budget [2].", "The committee raised the budget [2].", {2}),
        ("The committee raised the budget. [2]", "The committee raised the budget. [2]", {2}),
        ("The committee raised the budget [9].", "The committee raised the budget.", set()),
        ("The committee raised the budget [2, 9].", "The committee raised the budget [2].", {2}),
        ("The committee raised the budget [2][3].", "The committee raised the budget [2].", {2}),
        ("The committee raised the budget [3].", "The committee raised the budget.", set()),
        ("소유권은 메모리 관리 규칙입니다[1].", "소유권은 메모리 관리 규칙입니다[1].", {1}),
        ("방학에는 학교에 가지 않습니다[1].", "방학에는 학교에 가지 않습니다.", set()),
        ("Pigeons breed in towns. Budgets were raised for schools. [2]", None, {2}),
        ("no mark [at all] and an open [1", "no mark [at all] and an open [1", set()),
        ("in code `values[9]` it stays", "in code `values[9]` it stays", set()),
        ("x [ ] [] [,]", "x [ ] [] [,]", set()),
    ],
)
def test_marks_that_support_nothing_are_taken_out(answer: str, shown: str | None, cited: set[int], size: int) -> None:
    assert read(answer, size) == (answer if shown is None else shown, cited)


def test_between_two_languages_words_cannot_tell() -> None:
    assert read("위원회는 학교 예산을 올리기로 했습니다 [2].") == ("위원회는 학교 예산을 올리기로 했습니다 [2].", {2})


def test_support_is_the_share_of_an_answer_that_a_source_says() -> None:
    assert support("The committee decided.", SOURCES[2]) == 1.0
    assert support("The committee decided [2].", SOURCES[2]) == 1.0
    assert support("Nothing alike whatsoever.", SOURCES[2]) == 0.0
    assert support("", SOURCES[2]) == 0.0
