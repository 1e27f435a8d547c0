"""Tasks are found by name, their data where it is, and bad data is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, UnknownOption
from madang.evaluation import DataPlace, find_task
from madang.evaluation.tasks import Response
from madang.evaluation.tasks.rows import read_rows
from madang.evaluation.tasks.table import ENTRIES

HERE = DataPlace(offline=True)


def test_a_file_is_named_or_found_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = folder / "kobest_COPA_test.tsv"
    path.write_text("ID\tsentence\tquestion\t1\t2\tAnswer\n1\t비.\t결과\t가\t나\t2\n", encoding="utf-8")
    for text, place in (("kobest:copa", DataPlace(tmp_path, offline=True)), (f"kobest:copa={path}", HERE)):
        task = find_task(text, place)
        assert task.name == "kobest:copa"
        assert task.prompt(task.items()[0]).request.prompt == "비.  그래서"


def test_subjects_stand_behind_a_colon_and_in_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "high_school_physics_test.csv").write_text(
        '"What, then?",a,b,c,d,B\nTwo?,1,2,3,4,A\n', encoding="utf-8"
    )
    task = find_task("mmlu:high_school_physics", DataPlace(tmp_path, offline=True), n_shots=1)
    (item,) = task.items()
    prompt = task.prompt(item).request.prompt or ""
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about high school physics.\n\n"
    )
    assert "What, then?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\nTwo?" in prompt


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("kobest:bolq", "no task named"),
        ("mmlu", "has parts"),
        ("kobest:copa", "no data for kobest:copa"),
        ("bleu", "no data for bleu"),
        ("humaneval", "runs programs"),
        ("gsm8k=/nowhere.jsonl", "cannot be read"),
        ("gsm8k=/nowhere.bin", "no ending"),
        ("perplexity=/nowhere.txt", "cannot be read"),
        ("/nowhere/own.yaml", "cannot be read"),
        ("/nowhere/own.jsonl", "cannot be read"),
    ],
)
def test_what_is_not_there_is_said(name: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        find_task(name, HERE)


@pytest.mark.parametrize("name", ["humaneval=x.jsonl", "wikitext=x.txt", "own.yaml", "own.jsonl"])
def test_shots_are_refused_where_they_would_mean_nothing(name: str) -> None:
    with pytest.raises(InvalidRequest, match="takes no --shots"):
        find_task(name, HERE, n_shots=2, runs_code=True)


def test_every_known_task_says_what_it_is() -> None:
    assert all(entry.about for entry in ENTRIES.values())
    assert sum(entry.runs_code for entry in ENTRIES.values()) == 1


ROWS = [{"a": "1", "b": "둘"}, {"a": "3", "b": "넷"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
        ("x.json", json.dumps(ROWS)),
        ("y.json", json.dumps({"version": "1", "data": ROWS})),
        ("x.csv", "\ufeffa,b\r\n1,둘\r\n3,넷\r\n"),
        ("x.tsv", "a\tb\n1\t둘\n3\t넷\n"),
    ],
)
def test_rows_are_read_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert read_rows(path) == ROWS
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_rows(packed) == ROWS


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    assert read_rows(tmp_path / "x.parquet") == ROWS


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("x.jsonl", '{"a": 1}\nnonsense', "line 2 is not JSON"),
        ("x.jsonl", "[1]", "line 1 is not an object"),
        ("x.json", "{}", "neither a list"),
        ("x.csv", "a,b\n1,2\n3\n", "line 3 has another number of cells"),
        ("x.csv", "a,b\n", "has 0 rows"),
        ("x.tsv", "a\tb\n1\t2\t3\n", "line 2 has another number"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=problem):
        read_rows(tmp_path / name)


# ---- tasks of one's own


def own(tmp_path: Path, yaml: str, rows: str = "text,label,right\n좋아요,1,서울\n나빠요,부정,부산\n") -> Path:
    (tmp_path / "rows.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(f"task: own\ndata: rows.csv\n{yaml}", encoding="utf-8")
    return tmp_path / "own.yaml"


def test_choices_of_ones_own(tmp_path: Path) -> None:
    path = own(tmp_path, 'kind: choice\nversion: "3"\nprompt: "{text} { json } 긍부정: "\nchoices: [부정, 긍정]\n')
    task = find_task(str(path), HERE)
    first, second = task.items()
    assert (task.name, task.version) == ("own", "3")
    assert task.prompt(first).request.prompt == "좋아요 { json } 긍부정:"
    assert task.prompt(first).continuations == ("  부정", "  긍정")
    label = getattr(task, "label")  # noqa: B009  (a task of choices)
    assert [label(first.row), label(second.row)] == [1, 0]


@pytest.mark.parametrize(
    ("kind", "text", "score"),
    [
        ("exact", "서울", 1),
        ("exact", "서울입니다", 0),
        ("answer", "서울입니다", 1),
        ("keywords", "수도는 서울", 1),
        ("keywords", "부산", 0),
    ],
)
def test_answers_of_ones_own(tmp_path: Path, kind: str, text: str, score: float) -> None:
    path = own(tmp_path, f"kind: {kind}\nprompt: '{{text}}?'\nanswer: right\nform: raw\nstop: ['.']\nshots: 0\n")
    task = find_task(str(path), HERE)
    item = task.items()[0]
    request = task.prompt(item).request
    assert (request.prompt, request.stop, request.max_tokens) == ("좋아요?", (".",), 64)
    assert task.score(item, Response(text=text)) == score


def test_questions_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    task = find_task(str(path), HERE)
    item = task.items()[0]
    assert task.name == "questions" and task.prompt(item).request.messages[0].content == "1 + 1?"
    assert task.score(item, Response(text="2.")) == 1


@pytest.mark.parametrize(
    ("yaml", "problem"),
    [
        ("kind: chioce\n", "kind of task"),
        ("kind: choice\nchoises: [a, b]\n", "choises"),
        ("kind: choice\nchoices: [a, b]\n", "has no 'prompt'"),
        ("kind: choice\nprompt: x\nchoices: [a]\n", "neither a list"),
        ("kind: exact\nprompt: '{nothing}'\n", "no 'nothing'"),
        ("kind: exact\nprompt: x\nmax_tokens: -1\n", "must be a whole number"),
        ("kind: exact\nprompt: x\nform: loud\n", "form"),
        ("kind: exact\nprompt: x\nshots: 2\n", "2 examples were asked for"),
        ("kind: [\n", "cannot be read"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path: Path, yaml: str, problem: str) -> None:
    with pytest.raises((InvalidRequest, UnknownOption), match=problem):
        task = find_task(str(own(tmp_path, yaml)), HERE)
        task.prompt(task.items()[0])


def test_no_tag_of_yaml_makes_an_object(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        find_task(str(own(tmp_path, "kind: !!python/object/apply:os.getcwd []\n")), HERE)


def test_bleu_is_sacrebleus(tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    from madang.evaluation.tasks.task import Graded

    rows = [{"source": f"s{n}", "target": f"the cat number {n} sat on the mat"} for n in range(6)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = find_task(f"bleu={path}", HERE)
    said = [f" the cat number {n} sat on a mat" for n in range(6)]
    items = task.items()
    assert task.prompt(items[0]).request.prompt == "s0 =>"
    graded = [Graded(item, Response(text=text), 0.0) for item, text in zip(items, said, strict=True)]
    expected = sacrebleu.corpus_bleu([text.strip() for text in said], [[str(row["target"]) for row in rows]]).score
    figure = task.figure(graded)
    assert figure["value"] == pytest.approx(expected)
    assert figure["low"] <= expected <= figure["high"]
    assert task.score(items[0], Response(text=str(rows[0]["target"]))) == pytest.approx(100)
