"""Figures that are kept: also after a line that was cut off while it was written."""

from __future__ import annotations

from pathlib import Path

from madang.quantization.journal import Journal


def never() -> float:
    raise AssertionError("it was measured already")


def test_a_line_that_was_cut_off_takes_no_other_along(tmp_path: Path) -> None:
    path = tmp_path / "work" / "figures.jsonl"
    assert Journal(path).figure("first", lambda: 1.5) == 1.5
    with path.open("a", encoding="utf-8") as file:
        file.write('\n["second", 2.')  # killed here
    assert Journal(path).figure("third", lambda: 3.0) == 3.0
    again = Journal(path)
    assert (again.figure("first", never), again.figure("third", never)) == (1.5, 3.0)
    assert again.figure("second", lambda: 2.5) == 2.5
