"""Every usual form becomes the same conversation, and a row that cannot be used is named by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.messages import Message
from madang.training.examples import Loaded, load_examples, open_examples

ASKED, SAID = "안녕?", "반가워요."
TURNS = (Message("user", ASKED), Message("assistant", SAID))
ROWS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]},
    "sharegpt": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
    "alpaca": {"instruction": ASKED, "input": "", "output": SAID},
    "completion": {"prompt": ASKED, "completion": SAID},
    "qa": {"Question": ASKED, "answer": SAID},
}


def lines(folder: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def said_of(loaded: Loaded) -> list[tuple[int, str]]:
    return [(problem.line, problem.sentence) for problem in loaded.problems]


@pytest.mark.parametrize("form", ROWS)
def test_forms_are_found(tmp_path: Path, form: str) -> None:
    loaded = load_examples(lines(tmp_path, ROWS[form]))
    assert (loaded.form, loaded.problems) == (form, [])
    assert [(e.messages, e.source, e.line) for e in loaded.examples] == [(TURNS, "data.jsonl", 1)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.csv", "Q,A,label\n안녕?,반가워요.,0\n"),
        ("data.csv", "\ufeffquestion,answer\r\n안녕?,반가워요.\r\n"),
        ("data.tsv", "질문\t답변\n안녕?\t반가워요.\n"),
        ("data.json", json.dumps([ROWS["alpaca"]], indent=1)),
        ("data.json", json.dumps(ROWS["alpaca"]) + "\n"),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    loaded = load_examples(tmp_path / name)
    assert ([e.messages for e in loaded.examples], loaded.problems) == ([TURNS], [])


def test_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS["qa"]).encode()))
    assert load_examples(tmp_path / "data.jsonl.gz").examples[0].messages == TURNS


def test_a_system_message_an_input_and_calls(tmp_path: Path) -> None:
    (alpaca,) = load_examples(
        lines(tmp_path, {"instruction": "A", "input": "B", "output": "C", "system": "S"})
    ).examples
    assert alpaca.messages == (Message("system", "S"), Message("user", "A\n\nB"), Message("assistant", "C"))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (chat,) = load_examples(lines(tmp_path, {"messages": turns, "tools": [{"function": {"name": "f"}}]})).examples
    assert (chat.messages[1].tool_calls[0].arguments, chat.tools[0].name) == ({"a": 1}, "f")


def test_paragraphs_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\n  three\n", "utf-8")
    loaded = load_examples(tmp_path / "a.txt")
    assert [(e.text, e.line) for e in loaded.examples] == [("one\ntwo", 1), ("  three", 5)]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{broken", "it is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ([1], "it is no JSON object"),
        ({"messages": []}, "it has no messages"),
        ({"messages": "hello"}, "'messages' is no text, but has to be a list of messages"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "message 1 has the role 'narrator'"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]},
            "the answer in message 2 is empty",
        ),
        ({"messages": [{"role": "user", "content": "x"}]}, "it has no answer"),
        (
            {"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]},
            "its last message is of role 'user'",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, "'content of message 1' is a number"),
        ({"messages": [{"role": "user", "content": "x", "weight": 0}]}, "message 1 has a weight"),
        ({"text": "x"}, "'messages' is missing"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, row: Any, sentence: str) -> None:
    loaded = load_examples(lines(tmp_path, ROWS["chat"], row, ROWS["chat"]))
    assert [e.line for e in loaded.examples] == [1, 3]
    ((line, said),) = said_of(loaded)
    assert line == 2 and said.startswith(sentence)


def test_tables_count_the_lines_of_their_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('Q,A\n"two\nlines",a\nshort\nq,\n"q"x,a\nq,a\n', "utf-8")
    loaded = load_examples(tmp_path / "a.csv")
    assert [e.line for e in loaded.examples] == [2, 7]
    assert [line for line, _ in said_of(loaded)] == [4, 5, 6]
    assert said_of(loaded)[0][1] == "it has 1 columns, but the header has 2"


def test_what_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json.dumps(ROWS["qa"]).encode() + b"\n" + "{'가'}".encode("cp949") + b"\n")
    assert "iconv -f cp949" in said_of(load_examples(tmp_path / "a.jsonl"))[0][1]
    (tmp_path / "a.csv").write_bytes("Q,A\n가,나\n".encode("cp949"))
    with pytest.raises(InvalidRequest) as caught:
        load_examples(tmp_path / "a.csv", form=None)
    assert "cp949" in str(caught.value.hint) or "columns" in str(caught.value.hint)


def test_a_list_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{json.dumps(ROWS['qa'])},\n{json.dumps(ROWS['qa'])},\n{{oh", "utf-8")
    loaded = load_examples(tmp_path / "a.json")
    assert [e.line for e in loaded.examples] == [1, 2]
    assert [line for line, _ in said_of(loaded)] == [3]


@pytest.mark.parametrize("content", ["", "\n\n", "nothing\n"])
def test_a_file_without_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InvalidRequest, match="no row that can be read"):
        load_examples(tmp_path / "a.jsonl")


def test_columns_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="its first row has 'src', 'dst'"):
        load_examples(lines(tmp_path, {"src": 1, "dst": 2}))


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="There is no file"):
        load_examples(tmp_path / "none.jsonl")
    (tmp_path / "a.xlsx").write_bytes(b"PAR1")
    with pytest.raises(InvalidRequest, match="no kind of file"):
        load_examples(tmp_path / "a.xlsx")
    with pytest.raises(UnknownOption, match="sharegtp"):
        load_examples(lines(tmp_path, ROWS["qa"]), form="sharegtp")


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": f"a{n}"}]} for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    loaded = load_examples(tmp_path / "rows.parquet")
    assert loaded.form == "sharegpt" and not loaded.problems
    assert [(own.line, own.messages[1].content) for own in loaded.examples] == [(1, "a0"), (2, "a1"), (3, "a2")]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_examples(tmp_path / "bad.parquet")


def test_a_source_reads_again_each_time(tmp_path: Path) -> None:
    source = open_examples(lines(tmp_path, ROWS["qa"], ROWS["qa"]))
    assert list(source) == list(source) and len(list(source)) == 2


def test_shared_data_is_read_whole(shared_data: Path) -> None:
    loaded = load_examples(shared_data / "korean" / "chatbot_data.csv")
    assert (loaded.form, len(loaded.examples), loaded.problems) == ("qa", 11823, [])
    assert len(load_examples(shared_data / "english" / "gsm8k_test.jsonl").examples) == 1319
