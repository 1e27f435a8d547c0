"""``madang eval`` and ``madang runs``, on the engine that needs no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Madang


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    lines = [f'{{"prompt": "say {n}", "answer": "{f"say {n}" if n % 2 else "no"}"}}' for n in range(8)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_people_get_figures_and_a_number_to_look_them_up(madang: Madang, questions: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = madang("eval", "twin@echo", "other@echo", "--task", str(questions), "--html", str(page), "--limit", "6")
    assert result.status == 0, result.err
    header, twin, other, *rest = result.out.splitlines()
    assert header.split()[:5] == ["MODEL", "TASK", "METRIC", "N", "SCORE"]
    assert twin.split()[:5] == ["twin@echo", "own", "score", "6", "50.0"]
    assert other.split()[0] == "other@echo"
    assert any("≈ +0.0 points" in line for line in rest)
    assert "Kept as run 1, 2" in result.err
    assert "own" in page.read_text(encoding="utf-8")


def test_runs_are_listed_shown_compared_and_removed(madang: Madang, questions: Path, tmp_path: Path) -> None:
    for name in ("one@echo", "two@echo"):
        assert madang("eval", name, "--task", str(questions)).status == 0
    assert [run["run"] for run in madang("runs", "list", "--json").json()["runs"]] == [2, 1]
    table = madang("runs", "list", "--model", "one@echo").out.splitlines()
    assert len(table) == 2 and "own 0.5" in table[1]
    shown = madang("runs", "show", "1").out
    assert "sha256" in shown and "say 0" in shown
    assert madang("runs", "show", "1", "--json").json()["document"]["tasks"][0]["n"] == 8
    (compared,) = madang("runs", "compare", "1", "2", "--json").json()["tasks"]
    assert (compared["gained"], compared["lost"], compared["p_value"]) == (0, 0, 1.0)
    page = tmp_path / "page.html"
    assert "two@echo (run 2) against one@echo" in madang("runs", "compare", "1", "2", "--html", str(page)).out
    assert "two@echo" in page.read_text(encoding="utf-8")
    assert madang("runs", "rm", "1").status == 0
    gone = madang("runs", "show", "1")
    assert gone.status == 2 and "There is no run '1'." in gone.err


def test_json_holds_items_and_the_differences_from_the_first(madang: Madang, questions: Path) -> None:
    document = madang("eval", "twin@echo", "other@echo", "--task", str(questions), "--json").json()
    first = document["models"][0]
    assert first["run"] == 1
    assert first["tasks"][0]["items"][1] == {"id": "1", "score": 1.0, "weight": 1.0, "said": "say 1"}
    assert document["against_first"][0]["tasks"][0]["n"] == 8


def test_a_task_that_cannot_be_measured_is_a_row_with_a_reason(madang: Madang, tmp_path: Path) -> None:
    path = tmp_path / "kobest_SentiNeg_test.tsv"
    path.write_text("Text\tLabel\n좋다\t1\n", encoding="utf-8")
    result = madang("eval", "twin@echo", "--task", "kobest:sentineg", "--data", str(tmp_path))
    assert result.status == 0
    assert "does not tell how likely" in result.err


def test_prompts_and_tasks_are_shown_without_a_model(madang: Madang, questions: Path) -> None:
    assert "kobest:boolq" in madang("eval", "--list").out
    assert {"name": "gsm8k", "about": "word problems"} in madang("eval", "--list", "--json").json()["tasks"]
    shown = madang("eval", "--task", str(questions), "--show-prompts")
    assert "own, version 1, 8 items, score\n[user] say 0" in shown.out


def test_what_makes_no_sense_is_refused_before_anything_runs(madang: Madang, questions: Path, tmp_path: Path) -> None:
    for options, problem in (
        (("twin@echo",), "No task was named."),
        (("--task", str(questions)), "No model was named."),
        (("twin@echo", "--task", "kobest:bolq"), "Did you mean kobest:boolq"),
        (("twin@echo", "--task", str(questions), "--task", str(questions)), "more than once"),
        (("twin@echo", "--task", "humaneval"), "--run-code"),
        (("twin@echo", "--task", str(questions), "--html", str(tmp_path)), "is a folder"),
        (("twin@echo", "--task", "gsm8k", "--data", str(tmp_path / "none")), "is not a folder"),
    ):
        result = madang("eval", *options, MADANG_OFFLINE="1")
        assert result.status == 2, options
        assert problem in result.err
        assert result.out == ""
