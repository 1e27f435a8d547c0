"""Documents from the command line: taken in, listed, searched, asked, measured, removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from madang.rag.grounding import REFUSALS
from tests.cli.conftest import Madang

BIRDS = "# Pigeons\n\nPigeons breed in towns all year round.\n\n# Storks\n\nStorks come back from Africa in March.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "birds.md").write_text(BIRDS)
    (folder / "fish.txt").write_text("Salmon swim up the river in autumn.")
    return folder


@pytest.fixture
def home(tmp_path: Path, minilm_folder: Path) -> Path:
    """With the models of the tests' cache."""
    home = tmp_path / "home"
    home.mkdir()
    root = next(parent for parent in minilm_folder.parents if parent.name == "models")
    (home / "models").symlink_to(root)
    return home


def test_documents_from_add_to_rm(madang: Madang, folder: Path, tmp_path: Path) -> None:
    added = madang("rag", "add", str(folder), "-c", "birds", "--json").json()
    assert [row["state"] for row in added["documents"]] == ["added", "added"]
    again = madang("rag", "add", str(folder), "-c", "birds")
    assert again.status == 0 and "2 unchanged" in again.err
    (folder / "fish.txt").write_text("Salmon swim up the river in spring.")
    assert "1 unchanged, 1 added" in madang("rag", "add", str(folder), "-c", "birds").err
    (listed,) = madang("rag", "list", "--json").json()["collections"]
    assert (listed["name"], listed["n_documents"], listed["embedding_model"]) == ("birds", 2, "all-minilm:l6")
    assert "birds.md" in madang("rag", "list", "birds").out
    found = madang("rag", "search", "When do storks come back?", "--json").json()
    assert found["is_relevant"] and found["hits"][0]["chunk"]["headings"] == ["Storks"]
    assert "Storks" in madang("rag", "search", "When do storks come back?", "-d", "birds").out

    questions = tmp_path / "questions.jsonl"
    asked = [
        {"question": "When do storks come back?", "document": "birds.md", "headings": ["Storks"]},
        {"question": "What does the constitution say on taxes?"},
    ]
    questions.write_text("\n".join(map(json.dumps, asked)))
    told = madang("rag", "eval", str(questions), "--json").json()["modes"]["hybrid"]
    assert (told["recall@1"], told["mrr"], told["refused"], told["n_questions"]) == (1.0, 1.0, 1.0, 2)

    assert madang("rag", "rm", "birds", str(folder / "fish.txt")).status == 0
    assert len(madang("rag", "list", "birds", "--json").json()["documents"]) == 1
    assert madang("rag", "rm", "birds").status == 0
    assert madang("rag", "list", "--json").json() == {"collections": []}
    assert madang("rag", "search", "storks").status == 2


def test_a_question_is_answered_from_them_or_refused(madang: Madang, folder: Path) -> None:
    madang("rag", "add", str(folder))
    answer = madang("rag", "ask", "When do storks come back?", "--max-tokens", "12", "--json").json()
    assert answer["is_grounded"] and answer["text"]
    assert any("Africa in March" in source["text"] for source in answer["sources"])
    assert answer["ledger"]["source_tokens"] > 0
    shown = madang("rag", "ask", "When do storks come back?", "--max-tokens", "12", "--threads", "1")
    assert shown.status == 0 and shown.out.strip() and "[" in shown.err
    refused = madang("rag", "ask", "What does the constitution say on taxes?", "--json").json()
    assert (refused["text"], refused["is_grounded"], refused["sources"]) == (REFUSALS["en"], False, [])
    korean = madang("rag", "ask", "storks는 언제 March에 돌아오나요? storks come back from Africa", "--max-tokens", "4")
    assert "has not learnt the language" in korean.err and "--language ko" in korean.err
    assert madang("rag", "ask", "헌법은 세금에 대해 뭐라고 하나요?").out.strip() == REFUSALS["ko"]


def test_what_cannot_be_read_is_told_and_the_rest_goes_in(madang: Madang, folder: Path) -> None:
    (folder / "broken.docx").write_bytes(b"PK\x03\x04" + os.urandom(100))
    (folder / "empty.txt").write_text("")
    added = madang("rag", "add", str(folder))
    assert added.status == 1 and "2 added, 2 failed" in added.err.replace("1 failed, ", "")
    assert "broken.docx cannot be read" in added.err and "empty.txt cannot be read" in added.err
    assert len(madang("rag", "list", "documents", "--json").json()["documents"]) == 2


def test_what_makes_no_sense(madang: Madang, folder: Path, tmp_path: Path) -> None:
    assert madang("rag", "add", str(tmp_path / "nowhere")).status == 2
    assert madang("rag", "list", "nowhere").status == 2
    assert "madang rag add" in madang("rag", "ask", "Who?").err
    assert madang("rag", "add", str(folder), "-c", "/").status == 2
    madang("rag", "add", str(folder))
    assert "cannot be mixed" in madang("rag", "add", str(folder), "--model", "bge-m3").err
    assert "hybrid" in madang("rag", "search", "x", "--mode", "fuzzy").err
    assert madang("rag", "ask", "Who?", "-d", "nothing").status == 2
    assert "madang rag add" in madang("rag", "list", "--key", "other").err
