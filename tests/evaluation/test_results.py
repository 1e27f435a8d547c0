"""Documents of comparisons, kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.core.errors import NotFound
from madang.evaluation.results import FOLDER, MOST_KEPT, Results

DOCUMENT = {"models": [{"label": "한국어"}]}


def test_a_result_is_kept_found_and_removed(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.list() == []
    id = results.keep(DOCUMENT)
    assert results.get(id).document == DOCUMENT
    assert [one.id for one in Results(tmp_path).list()] == [id]
    results.remove(id)
    for wrong in (id, "cmp-1", "../../../etc/passwd"):
        with pytest.raises(NotFound):
            results.get(wrong)
        with pytest.raises(NotFound):
            results.remove(wrong)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    results = Results(tmp_path)
    ids = [results.keep(DOCUMENT, f"cmp-{number:014}-abcdef") for number in range(MOST_KEPT + 2)]
    assert [one.id for one in results.list()] == ids[:1:-1]


def test_what_others_left_is_passed_over(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(DOCUMENT)
    for name, content in {"cmp-1.json": "{}", "cmp-20260101000000-abcdef.json": "[", "notes.txt": "x"}.items():
        (tmp_path / FOLDER / name).write_text(content)
    assert len(results.list()) == 1
