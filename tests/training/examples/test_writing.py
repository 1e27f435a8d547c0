"""Written examples are read again as they were, and files are whole or not there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, NotEnoughDisk
from madang.core.messages import Message, Tool, ToolCall
from madang.training.examples import Example, load_examples
from madang.training.examples.writing import row_of, writing_examples

ASKED = Message("user", "Q")
CALL = Message("assistant", "", (ToolCall("1", "weather", {"city": "서울"}),))
EXAMPLES = [
    Example((Message("system", "S"), Message("user", "Q"), Message("assistant", "A")), source="a.csv", line=7),
    Example(
        (
            Message("user", "Q"),
            CALL,
            Message("tool", "맑음", tool_call_id="1", name="weather"),
            Message("assistant", "A"),
        ),
        source="b.jsonl",
        line=1,
        tools=(Tool("weather", "날씨", {"type": "object"}),),
        provenance={"made_by": "m", "seed": 0},
    ),
]


def test_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with writing_examples(path) as write:
        for example in EXAMPLES:
            write(row_of(example))
    assert load_examples(path).examples == EXAMPLES


def test_texts(tmp_path: Path) -> None:
    example = Example(text="two\nlines", source="a.txt", line=3)
    with writing_examples(tmp_path / "out.jsonl") as write:
        write(row_of(example))
    assert load_examples(tmp_path / "out.jsonl").examples == [example]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDisk), writing_examples(tmp_path / "out.jsonl") as write:
        write(row_of(EXAMPLES[0]))
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(KeyboardInterrupt), writing_examples(tmp_path / "out.jsonl") as write:
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(InvalidRequest, match="exists already"), writing_examples(tmp_path / "out.jsonl"):
        pass
    assert (tmp_path / "out.jsonl").read_text() == "mine"
