"""The page of fields says what the wire does."""

from __future__ import annotations

from pathlib import Path

from madang.server.reference import DEFAULT_PATH, ENDPOINTS, main, reference
from tests.conftest import ROOT


def test_the_committed_page_is_what_would_be_written() -> None:
    assert main(["--check", str(ROOT / DEFAULT_PATH)]) == 0


def test_a_page_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--check", str(page)]) == 1
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main(["--check", str(page)]) == 1


def test_no_field_is_in_two_lists() -> None:
    for path, wire in ENDPOINTS:
        names = [*wire.model_fields, *wire.IGNORED, *wire.REFUSED]
        assert len(names) == len(set(names)), path
        assert f"## {path}\n" in reference()
