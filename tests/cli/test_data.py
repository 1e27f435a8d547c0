"""``madang data``: reports on stdout, new files whole or not at all, and never a change in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Madang

ANSWER = "Its lamp shows captains where rocks lie, and a known rhythm of flashes tells them which tower it is."


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "chat.csv"
    lines = [f"질문 {i}번은 무엇에 관한 것인가요 {chr(0xAC00 + 97 * i) * 4}?,{i}번째 답입니다." for i in range(40)]
    path.write_text("\n".join(["Q,A", *lines, "empty,", lines[0]]) + "\n", "utf-8")
    return path


def test_check_names_lines_and_fails(madang: Madang, table: Path) -> None:
    result = madang("data", "check", str(table))
    assert result.status == 1
    assert "rows that cannot be used  1" in result.out
    assert "chat.csv, line 42: the answer in message 2 is empty." in result.err
    document = madang("data", "check", str(table), "--json").json()
    assert (document["form"], document["unusable"], document["counts"]["examples"]) == ("qa", 1, 41)


def test_check_of_good_data_succeeds(madang: Madang, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert madang("data", "check", str(tmp_path / "a.txt")).status == 0


def test_dedup_writes_the_rest(madang: Madang, table: Path, tmp_path: Path) -> None:
    before, output = table.read_bytes(), tmp_path / "new" / "out.jsonl"
    document = madang("data", "dedup", str(table), "-o", str(output), "--similarity", "1", "--json").json()
    assert (document["kept"], document["dropped_exact"], document["dropped_near"]) == (40, 1, 0)
    assert len(rows(output)) == 40 and rows(output)[0]["source"] == "chat.csv" and rows(output)[0]["line"] == 2
    assert table.read_bytes() == before


@pytest.mark.parametrize("verb", ["dedup", "filter", "contamination"])
def test_nothing_is_written_over(madang: Madang, table: Path, tmp_path: Path, verb: str) -> None:
    against = ("--against", str(table)) if verb == "contamination" else ()
    before = table.read_bytes()
    result = madang("data", verb, str(table), "-o", str(table), *against)
    assert result.status == 2 and "exists already" in result.err
    assert table.read_bytes() == before and list(tmp_path.glob(".chat*")) == []


def test_filter_says_why(madang: Madang, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"Lighthouses. {ANSWER}\n\nshort\n\n{'loop and ' * 30}\n")
    kept, dropped = tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl"
    result = madang("data", "filter", str(tmp_path / "a.txt"), "-o", str(kept), "--dropped", str(dropped))
    assert result.status == 0 and "1 kept, 2 dropped" in result.out
    assert "too short (5), line 3: short" in result.err
    assert [row["line"] for row in rows(kept)] == [1]
    assert [[reason["rule"] for reason in row["dropped"]] for row in rows(dropped)] == [
        ["too short"],
        ["repetition", "one word"],
    ]
    assert json.loads(madang("data", "filter", str(kept), "--json").out)["kept"] == 1


def test_filter_by_labels(madang: Madang, tmp_path: Path) -> None:
    words = ["stone", "river", "cloud", "lantern", "bridge", "forest", "harbor", "engine", "planet", "violin"]
    good = [f"The {a} is described because the {b} explains it.\n" for a in words for b in words[:3]]
    bad = [f"BUY {a} now!!! cheap {b} deal\n" for a in words for b in words[:3]]
    for name, texts in {"good": good, "bad": bad, "mixed": [good[5], bad[5]]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))
    labels = ("--good", str(tmp_path / "good.txt"), "--bad", str(tmp_path / "bad.txt"))
    document = madang("data", "filter", str(tmp_path / "mixed.txt"), *labels, "--min-characters", "0", "--json").json()
    assert (document["kept"], document["by_rule"]) == (1, {"quality": 1})
    assert document["classifier"]["accuracy"] > 0.9
    assert madang("data", "filter", str(tmp_path / "mixed.txt"), *labels[:2]).status == 2


def test_filter_by_an_engine_that_cannot(madang: Madang, table: Path, tmp_path: Path) -> None:
    result = madang("data", "filter", str(table), "--model", "x", "--engine", "echo", "-o", str(tmp_path / "out.jsonl"))
    assert result.status == 2 and "cannot tell how likely" in result.err
    assert not (tmp_path / "out.jsonl").exists()


def test_contamination(madang: Madang, tmp_path: Path) -> None:
    item = "Janet sells sixteen eggs a day at the market and keeps three of them for her own breakfast every morning."
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": item, "answer": "13"}) + "\n")
    (tmp_path / "data.txt").write_text(f"Nothing to see here.\n\nA puzzle: {item}\n")
    call = ("data", "contamination", str(tmp_path / "data.txt"), "--against", str(tmp_path / "eval.jsonl"))
    result = madang(*call)
    assert result.status == 1 and "1 of 2 examples share something" in result.out
    assert "Line 3 has 100% of eval.jsonl, line 1" in result.err
    assert madang(*call, "-o", str(tmp_path / "clean.jsonl")).status == 0
    assert [row["text"] for row in rows(tmp_path / "clean.jsonl")] == ["Nothing to see here."]


def test_split(madang: Madang, table: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("t.jsonl", "v.jsonl")]
    call = ("data", "split", str(table), "--share", "0.2", "--train", str(files[0]), "--validation", str(files[1]))
    document = madang(*call, "--json").json()
    assert document["counts"]["train"] + document["counts"]["validation"] == 41
    assert [len(rows(file)) for file in files] == [document["counts"]["train"], document["counts"]["validation"]]
    questions = [{row["messages"][0]["content"] for row in rows(file)} for file in files]
    assert not questions[0] & questions[1]
    assert madang(*call).status == 2


def test_synthesize(madang: Madang, tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("lighthouses\n\ntides\n")
    told = "Please be so kind and say this, word for word, with nothing before and nothing after it, thank you: "
    told += json.dumps({"question": "What are {topic} for?", "answer": f"On {{topic}}. {ANSWER}"})
    output = tmp_path / "made.jsonl"
    call = ("data", "synthesize", str(tmp_path / "topics.txt"), "--model", "x", "--engine", "echo", "-o", str(output))
    refused = madang(*call)
    assert refused.status == 2 and "--free" in refused.err and list(tmp_path.glob("made*")) == []
    result = madang(*call, "--free", "--instruction", told, "--temperature", "0", "--json")
    assert (result.json()["made"], result.json()["given_up"]) == (1, 1)  # the second is too much like the first
    assert [row["provenance"]["topic"] for row in rows(output)] == ["lighthouses"]


def test_render_marks_what_is_learnt(madang: Madang, tmp_path: Path, starter_gguf: Path) -> None:
    (tmp_path / "a.csv").write_text("Q,A\n안녕?,반가워요.\n", "utf-8")
    output = tmp_path / "tokens.jsonl"
    result = madang("data", "render", str(tmp_path / "a.csv"), "--model", str(starter_gguf), "-o", str(output))
    assert result.status == 0
    assert "<|im_start|>user\n안녕?<|im_end|>\n<|im_start|>assistant\n⟦반가워요.<|im_end|>⟧\n" in result.out
    (row,) = rows(output)
    assert len(row["input_ids"]) == len(row["labels"]) and row["labels"][0] == -100


def test_check_counts_what_is_too_long(madang: Madang, tmp_path: Path, starter_gguf: Path) -> None:
    (tmp_path / "a.csv").write_text("Q,A\nhi,ho\nhi," + "long " * 100 + "\n", "utf-8")
    call = ("data", "check", str(tmp_path / "a.csv"), "--model", str(starter_gguf), "--max-tokens", "64")
    tokens = madang(*call, "--json").json()["tokens"]
    assert (tokens["examples"], tokens["items"], tokens["too_long"], tokens["policy"]) == (2, 1, 1, "left out")
    assert madang(*call, "--too-long", "refuse").status == 2
    assert madang(*call, "--too-long", "shorten").status == 2


def test_bad_input_is_one_sentence(madang: Madang, tmp_path: Path) -> None:
    assert "There is no file" in madang("data", "check", str(tmp_path / "none.jsonl")).err
    (tmp_path / "a.jsonl").write_text('{"src": 1}\n')
    result = madang("data", "check", str(tmp_path / "a.jsonl"))
    assert result.status == 2 and "its first row has 'src'" in result.err
