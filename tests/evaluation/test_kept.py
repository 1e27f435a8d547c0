"""What is kept survives the end of a process, also one in the middle of a line."""

from __future__ import annotations

from pathlib import Path

from madang.evaluation.kept import KeptSteps, key_of


def test_results_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "steps.jsonl"
    KeptSteps(path).keep("a", {"x": 1})
    again = KeptSteps(path)
    again.keep("b", {"y": [1, 2]})
    assert (KeptSteps(path).find("a"), KeptSteps(path).find("b")) == ({"x": 1}, {"y": [1, 2]})
    assert KeptSteps(path).find("c") is None


def test_a_line_that_was_cut_off_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    kept = KeptSteps(path)
    kept.keep("a", {"x": 1})
    kept.keep("b", {"x": 2})
    path.write_bytes(path.read_bytes()[:-8])
    assert KeptSteps(path).find("a") == {"x": 1}
    assert KeptSteps(path).find("b") is None
    KeptSteps(path).keep("b", {"x": 3})
    assert KeptSteps(path).find("b") == {"x": 3}


def test_fresh_forgets_and_no_path_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    KeptSteps(path).keep("a", {"x": 1})
    assert KeptSteps(path, fresh=True).find("a") is None
    assert not path.exists()
    alone = KeptSteps(None)
    alone.keep("a", {"x": 1})
    assert alone.find("a") == {"x": 1}


def test_a_key_does_not_depend_on_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
