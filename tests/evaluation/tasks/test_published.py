"""Benchmarks are read as they are published: names of files, columns and types of rows, from folders and the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madang.core.errors import InvalidRequest, SourceError, UnknownOption
from madang.evaluation import DataPlace, find_task
from madang.evaluation.tasks import Item, Task
from madang.evaluation.tasks.choices import ChoiceTask
from tests.models.standins import DatasetHub

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

MMLU = [
    {"question": "What is 1 + 1?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 1},
    {"question": "What is 2 + 2?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 3},
]
KMMLU_CSV = (
    "\ufeffquestion,answer,A,B,C,D,Category,Human Accuracy\n"
    '"둘, 셋\n더하기?",4,2,3,4,5,Law,0.5\n'
    "다음은?,1,가,나,다,라,Law,\n"
)
KMMLU = [
    {"question": "하나?", "answer": n, **dict(zip("ABCD", "가나다라", strict=True)), "Category": "Law"} for n in (4, 1)
]
HAERAE = [
    {"query": "뜻은?\n(A) 가\n(B) 나\n(C) 다\n(D) 라\n(E) 마\n정답:", "options": "['가', '나']", "answer": answer}
    for answer in ("(E)", "(A)")
]
ARC = [
    {
        "id": "Mercury_1",
        "question": "Which floats?",
        "choices": {"text": ["a rock", "a cork", "lead"], "label": names},
        "answerKey": names[1],
    }
    for names in (["A", "B", "C"], ["1", "2", "3"])
]
ARC_JSONL = {
    "id": "MCAS_1",
    "question": {
        "stem": "Which floats?",
        "choices": [{"text": "a rock", "label": "1"}, {"text": "a cork", "label": "2"}],
    },
    "answerKey": "2",
}
HELLASWAG = [
    {
        "ind": 24,
        "activity_label": "Roof shingle removal",
        "ctx_a": "A man is sitting on a roof.",
        "ctx_b": "he",
        "ctx": "A man is sitting on a roof. he",
        "endings": ["is using wrap.", "is ripping tiles.", "holds a cube.", "starts pulling [title] up."],
        "source_id": "activitynet~v_1",
        "split": "val",
        "split_type": "indomain",
        "label": "3",
    }
]
TRIVIA = [
    {
        "question": "Which Lloyd Webber musical premiered in 1993?",
        "question_id": "tc_33",
        "question_source": "http://example.org/",
        "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
        "search_results": {"description": [], "rank": [], "search_context": []},
        "answer": {
            "aliases": ["Sunset Blvd", "Sunset Boulevard"],
            "normalized_aliases": ["sunset blvd", "sunset boulevard"],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": "sunset boulevard",
            "type": "WikipediaEntity",
            "value": "Sunset Boulevard",
        },
    }
]
TRIVIA_JSON = {
    "Data": [
        {
            "Answer": {"Aliases": ["Sunset Blvd"], "NormalizedAliases": ["sunset blvd"], "Value": "Sunset Boulevard"},
            "Question": "Which Lloyd Webber musical premiered in 1993?",
            "QuestionId": "tc_33",
            "EntityPages": [],
        }
    ],
    "Domain": "Web",
    "Version": 1.0,
}
KORQUAD_ANSWER = {"text": "서울", "answer_start": 0}
KORQUAD_JSON = {
    "version": "KorQuAD_v1.0_dev",
    "data": [
        {
            "title": "서울",
            "paragraphs": [
                {
                    "context": "서울은 수도이다.",
                    "qas": [{"id": "1-0", "question": "수도는?", "answers": [KORQUAD_ANSWER]}],
                }
            ],
        }
    ],
}
KORQUAD = [
    {
        "id": "1-0",
        "title": "서울",
        "context": "서울은 수도이다.",
        "question": "수도는?",
        "answers": {"text": ["서울"], "answer_start": [0]},
    }
]
BOOLQ = [{"paragraph": "글", "question": "물음", "label": label} for label in (1, 0)]
CODE = {
    "task_id": "HumanEval/0",
    "prompt": "def f():\n",
    "canonical_solution": "    pass\n",
    "test": "",
    "entry_point": "f",
}

# Task, where its file lies in a copy of the data set, what is in it, and the numbers of the right choices.
CHOICES: list[tuple[str, str, Any, list[int]]] = [
    ("mmlu:anatomy", "mmlu/anatomy/test-00000-of-00001.parquet", MMLU, [1, 3]),
    ("mmlu:anatomy", "data/test/anatomy_test.csv", "What is 1 + 1?,1,2,3,4,B\nWhat is 2 + 2?,1,2,3,4,D\n", [1, 3]),
    ("kmmlu:Law", "KMMLU/data/Law-test.csv", KMMLU_CSV, [3, 0]),
    ("kmmlu:Law", "Law/test/0000.parquet", KMMLU, [3, 0]),
    ("haerae:history", "history/test/0000.parquet", HAERAE, [4, 0]),
    ("arc:easy", "ai2_arc/ARC-Easy/test-00000-of-00001.parquet", ARC, [1, 1]),
    ("arc:challenge", "ARC-V1-Feb2018-2/ARC-Challenge/ARC-Challenge-Test.jsonl", [ARC_JSONL], [1]),
    ("hellaswag", "hellaswag/data/validation-00000-of-00001.parquet", HELLASWAG, [3]),
    ("hellaswag", "hellaswag_val.jsonl", [{**HELLASWAG[0], "label": 3}], [3]),
    ("kobest:boolq", "kobest_v1/boolq/test.jsonl", BOOLQ, [1, 0]),
    ("kobest:boolq", "boolq/test/0000.parquet", BOOLQ, [1, 0]),
]


def write(path: Path, content: Any) -> Path:
    """A file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), encoding="utf-8")
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def found(name: str, folder: Path) -> tuple[Task, Sequence[Item]]:
    task = find_task(name, DataPlace(folder, offline=True, cache=folder / "cache"), runs_code=True)
    return task, task.items()


@pytest.mark.parametrize(("name", "path", "content", "labels"), CHOICES)
def test_choices(tmp_path: Path, name: str, path: str, content: Any, labels: list[int]) -> None:
    write(tmp_path / path, content)
    task, items = found(name, tmp_path)
    assert isinstance(task, ChoiceTask)
    assert [task.label(item.row) for item in items] == labels
    assert all(task.prompt(item).request.prompt for item in items)


def test_what_is_read_of_them(tmp_path: Path) -> None:
    write(tmp_path / "Law-test.csv", KMMLU_CSV)
    write(tmp_path / "hellaswag_val.jsonl", HELLASWAG)
    task, items = found("kmmlu:Law", tmp_path)
    assert task.prompt(items[0]).request.prompt == "둘, 셋\n더하기?\nA. 2\nB. 3\nC. 4\nD. 5\n정답："
    task, items = found("hellaswag", tmp_path)
    assert task.prompt(items[0]).request.prompt == "Roof shingle removal: A man is sitting on a roof. He"
    assert task.prompt(items[0]).continuations[3] == " starts pulling. up."


@pytest.mark.parametrize(
    ("name", "path", "content", "right"),
    [
        ("triviaqa", "trivia_qa/rc.nocontext/validation-00000-of-00001.parquet", TRIVIA, "sunset blvd."),
        ("triviaqa", "qa/verified-web-dev.json", TRIVIA_JSON, "sunset blvd."),
        ("korquad", "KorQuAD_v1.0_dev.json", KORQUAD_JSON, "서울이다"),
        ("korquad", "squad_kor_v1/validation-00000-of-00001.parquet", KORQUAD, "서울이다"),
        ("gsm8k", "gsm8k/main/test-00000-of-00001.parquet", [{"question": "?", "answer": "So 2.\n#### 2"}], "It is 2."),
    ],
)
def test_answers(tmp_path: Path, name: str, path: str, content: Any, right: str) -> None:
    from madang.evaluation.tasks import Response

    write(tmp_path / path, content)
    task, (item,) = found(name, tmp_path)
    assert [task.score(item, Response(text=text)) for text in (right, "else")] == [1, 0]


def test_programs(tmp_path: Path) -> None:
    write(tmp_path / "openai_humaneval" / "test-00000-of-00001.parquet", [CODE])
    task, (item,) = found("humaneval", tmp_path)
    assert (item.id, task.prompt(item).request.prompt) == ("HumanEval/0", "def f():\n")


def test_one_benchmark_is_not_taken_for_another(tmp_path: Path) -> None:
    write(tmp_path / "a" / "Korean-History" / "test" / "0000.parquet", KMMLU)
    write(tmp_path / "b" / "history" / "test" / "0000.parquet", HAERAE)
    write(tmp_path / "a" / "hellaswag_test.jsonl", HELLASWAG)
    write(tmp_path / "b" / "hellaswag" / "test.jsonl", [{"context": "글", "label": 0}])
    assert found("haerae:history", tmp_path)[1][0].row == HAERAE[0]
    assert found("kobest:hellaswag", tmp_path)[1][0].row == {"context": "글", "label": 0}


# ---- the hub

PART = "Law/test/0000.parquet"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[DatasetHub]:
    content = write(tmp_path / "law.parquet", KMMLU).read_bytes()
    hub = DatasetHub(repository="HAERAE-HUB/KMMLU", small={PART: content, PART.replace("Law", "Math"): content})
    server = hub.start()
    yield hub
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_once(hub: DatasetHub, tmp_path: Path) -> None:
    place = DataPlace(endpoint=hub.url, cache=tmp_path / "cache")
    assert [item.row["answer"] for item in find_task("kmmlu:Law", place).items()] == [4, 1]
    n_downloads = len(hub.ranges())
    hub.small = {}
    for later in (replace(place, offline=True), replace(place, offline=True, folder=tmp_path / "cache")):
        assert len(find_task("kmmlu:Law", later).items()) == 2
    assert len(hub.ranges()) == n_downloads
    with pytest.raises(InvalidRequest, match="no data for kmmlu:Math"):
        find_task("kmmlu:Math", replace(place, offline=True))


@pytest.mark.parametrize(
    ("change", "problem", "hint"),
    [
        ({}, "no part of HAERAE-HUB/KMMLU named 'law'", "Did you mean Law?"),
        ({"repository": "org/other"}, "no data set HAERAE-HUB/KMMLU", "HF_TOKEN"),
        ({"revisions": ("main",)}, "no such revision", "See its revisions"),
        ({"gated": True}, "is gated", "Accept them at"),
    ],
)
def test_what_the_hub_refuses_is_said(
    hub: DatasetHub, tmp_path: Path, change: Mapping[str, Any], problem: str, hint: str
) -> None:
    for name, value in change.items():
        setattr(hub, name, value)
    place = DataPlace(endpoint=hub.url, cache=tmp_path / "cache")
    with pytest.raises((SourceError, UnknownOption), match=problem) as caught:
        find_task("kmmlu:Law" if change else "kmmlu:law", place)
    assert hint in (caught.value.hint or "")
