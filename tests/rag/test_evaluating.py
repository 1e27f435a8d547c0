"""Questions whose passages are known: how they are read, and what is counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from madang.core.errors import InvalidRequest
from madang.rag.evaluating import Outcome, Question, outcomes, read_questions, report


def chunk(
    source: str = "/a/b.md", headings: tuple[str, ...] = ("A", "B"), start: int = 0, text: str = "some text"
) -> Any:
    return SimpleNamespace(source=source, headings=headings, start=start, end=start + len(text), text=text)


@pytest.mark.parametrize(
    ("question", "is_answered"),
    [
        (Question(question="?", document="b.md"), True),
        (Question(question="?", document="c.md"), False),
        (Question(question="?", headings=["A"]), True),
        (Question(question="?", headings=["B"]), False),
        (Question(question="?", text="some\n text"), True),
        (Question(question="?", text="and some text and more"), True),
        (Question(question="?", text="other"), False),
        (Question(question="?", start=0), True),
        (Question(question="?", start=8, end=20), True),
        (Question(question="?", start=9, end=20), False),
    ],
)
def test_what_answers(question: Question, is_answered: bool) -> None:
    assert question.is_answerable and question.is_answered_by(chunk()) is is_answered


def test_ranks_and_refusals_are_counted() -> None:
    asked = [Question(question=name, text=name) for name in ("one", "two", "none")] + [Question(question="weather")]

    def search(query: str) -> Any:
        texts = {"one": ["one"], "two": ["x", "two"], "none": ["x"], "weather": ["x"]}[query]
        hits = [SimpleNamespace(rank=rank, chunk=chunk(text=text)) for rank, text in enumerate(texts, 1)]
        return SimpleNamespace(hits=hits, is_relevant=query != "weather")

    told = report(list(outcomes(asked, search)))
    assert (told["recall@1"], told["recall@3"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert told["mrr"] == pytest.approx(0.5)
    assert (told["refused"], told["wrongly_refused"], told["n_answerable"]) == (1.0, 0.0, 3)
    assert report([Outcome(asked[0], None, True)])["refused"] is None


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "Line 2"), ("[]", "Line 2"), ('{"question": ""}', "Line 2"), ('{"question": "a", "start": "x"}', "'start'")],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a", "kind": "x"}\n' + line)
    with pytest.raises(InvalidRequest, match=said):
        read_questions(path)


def test_an_empty_file_has_no_questions(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InvalidRequest, match="no questions"):
        read_questions(tmp_path / "empty.jsonl")
