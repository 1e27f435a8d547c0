"""Answers of any engine as rows to learn from, once each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.engines.echo import EchoEngine
from madang.training.distilling import answer_questions
from madang.training.examples import Example, load_examples

QUESTIONS = [
    Example((Message("user", "하나?"), Message("assistant", "old")), source="q.jsonl", line=1),
    Example((Message("system", "Be short."), Message("user", "two?")), source="q.jsonl", line=2),
    Example(text="three?", source="q.txt", line=7),
]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_say_who_answered_what_and_load_as_examples(tmp_path: Path) -> None:
    target = tmp_path / "answers.jsonl"
    report = answer_questions(EchoEngine(), QUESTIONS, target)
    assert (report.written, report.resumed, report.empty, report.cut_short) == (3, 0, 0, 0)
    found = rows(target)
    assert [turn["role"] for turn in found[1]["messages"]] == ["system", "user", "assistant"]
    assert found[0]["messages"][0]["content"] == "하나?"
    assert "old" not in json.dumps(found)
    assert found[2]["provenance"]["line"] == 7
    assert found[2]["provenance"]["engine"] == EchoEngine().info.engine
    loaded = load_examples(target)
    assert len(loaded.examples) == 3
    assert not loaded.problems


def test_a_file_that_was_broken_off_goes_on_behind_its_last_whole_row(tmp_path: Path) -> None:
    target = tmp_path / "answers.jsonl"
    answer_questions(EchoEngine(), QUESTIONS, target)
    whole = target.read_bytes()
    first_end = whole.index(b"\n") + 1
    target.write_bytes(whole[: first_end + 20])
    report = answer_questions(EchoEngine(), QUESTIONS, target)
    assert (report.written, report.resumed) == (2, 1)
    assert [row["messages"] for row in rows(target)] == [json.loads(line)["messages"] for line in whole.splitlines()]


def test_answers_that_were_cut_short_are_left_out_and_counted(tmp_path: Path) -> None:
    report = answer_questions(EchoEngine(), [Example(text="one two three four")], tmp_path / "a.jsonl", max_tokens=1)
    assert (report.written, report.cut_short) == (0, 1)
    assert rows(tmp_path / "a.jsonl") == []


def test_rows_of_other_questions_or_settings_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "answers.jsonl"
    answer_questions(EchoEngine(), QUESTIONS, target)
    before = target.read_bytes()
    with pytest.raises(InvalidRequest, match="another teacher"):
        answer_questions(EchoEngine(), QUESTIONS, target, max_tokens=5)
    with pytest.raises(InvalidRequest, match="other questions"):
        answer_questions(EchoEngine(), QUESTIONS[::-1], target)
    assert target.read_bytes() == before


def test_a_question_that_nobody_asks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="line 4"):
        answer_questions(EchoEngine(), [Example((Message("assistant", "x"),), line=4, source="q")], tmp_path / "a")
