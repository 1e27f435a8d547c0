"""``madang compare`` and ``madang bench`` of several, on the engine that needs no model."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Madang

SHORT = ("compare", "twin@echo", "other@echo", "--prompt-tokens", "16", "--decode-tokens", "4", "--repetitions", "2")


def test_people_get_a_table_and_answers_side_by_side(madang: Madang) -> None:
    result = madang(*SHORT, "--prompt", "Say something")
    assert result.status == 0
    header, twin, other, *rest = result.out.splitlines()
    assert header.split("  ")[0] == "MODEL"
    assert "DECODE T/S" in header
    assert "PPL" not in header  # the echo has no probabilities
    assert twin.startswith("twin@echo") and other.startswith("other@echo")
    assert sum("Say something" in line for line in rest) == 3
    assert "Reference: twin@echo." in result.out
    assert "Not measurable with this engine" in result.err


def test_json_and_a_page_say_the_same_and_the_second_time_nothing_is_measured(madang: Madang, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    first = madang(*SHORT, "--html", str(page), "--language", "both", "--json").json()
    assert [model["label"] for model in first["models"]] == ["twin@echo", "other@echo"]
    assert first["steps"] == {"done": 10, "kept_from_before": 0}
    text = page.read_text(encoding="utf-8")
    assert "Comparison of 2 models" in text and "모델 2개 비교" in text
    again = madang(*SHORT, "--json").json()
    assert again["steps"] == {"done": 0, "kept_from_before": 10}
    assert madang(*SHORT, "--json", "--fresh").json()["steps"]["done"] == 10


def test_tasks_are_scored(madang: Madang, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"prompt": "blue sky", "keywords": ["BLUE", "red"]}\n{"prompt": "2", "answer": "2"}\n')
    result = madang(*SHORT, "--tasks", str(tasks))
    assert "75.0% of 2" in result.out


def test_the_reference_can_be_named(madang: Madang) -> None:
    assert madang(*SHORT, "--reference", "other@echo", "--json").json()["reference"] == "other@echo"
    third = madang(*SHORT, "--reference", "third@echo", "--json").json()
    assert third["reference"] == third["models"][0]["label"] == "third@echo"


def test_what_makes_no_sense_is_refused_before_anything_runs(madang: Madang, tmp_path: Path) -> None:
    bad_tasks = tmp_path / "tasks.jsonl"
    bad_tasks.write_text("{}")
    for options, problem in (
        (("--language", "fr"), "There is no language named 'fr'."),
        (("--tasks", str(bad_tasks)), "Line 1 of the tasks has no prompt."),
        (("--text", str(tmp_path / "none.txt")), "cannot be read"),
        (("--engine", "nothing"), "There is no engine named 'nothing'."),
        (("--prompt", ""), "A prompt is empty."),
        (("--html", str(tmp_path)), "is a folder"),
    ):
        result = madang(*SHORT, *options)
        assert result.status == 2, options
        assert problem in result.err
        assert result.out == ""


def test_several_models_are_timed_side_by_side(madang: Madang) -> None:
    several = ("bench", "twin@echo", "other@echo", "--prompt-tokens", "32", "--decode-tokens", "8")
    header, *rows = madang(*several).out.splitlines()
    assert header.split()[:2] == ["MODEL", "ENGINE"]
    assert [row.split()[:2] for row in rows] == [["twin@echo", "echo"], ["other@echo", "echo"]]
    document = madang(*several, "--json").json()
    for model in document["models"]:
        assert model["problem"] is None
        for step in ("prompt", "decode"):
            rate = model[step]["tokens_per_s"]
            assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert model["time_to_first_token_s"]["median"] >= 0
