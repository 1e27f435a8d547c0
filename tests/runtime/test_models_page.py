"""The written list of models: complete, and checked against the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.models import load_catalog
from madang.runtime.models_page import main, page


def test_it_has_every_model_licence_and_alias() -> None:
    text, catalog = page(), load_catalog()
    for name, entry in catalog.entries.items():
        assert f"| `{name}` |" in text
        assert entry.license is not None
        assert f"| {entry.license.name} | {entry.license.commercial} |" in text
    for alias, meant in catalog.aliases.items():
        assert f"| `{alias}` | `{meant}` |" in text
    assert "'passage: '" in text


def test_rows_have_as_many_cells_as_their_headers() -> None:
    width = None
    for line in page().splitlines():
        cells = line.replace("\\|", "").count("|")
        if not cells:
            width = None
        else:
            width = width or cells
            assert cells == width, line


def test_check_tells_a_fresh_page_from_a_stale_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "docs" / "models.md"
    assert main(["--check", str(path)]) == 1
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "by hand", encoding="utf-8")
    assert main(["--check", str(path)]) == 1
    assert "out of date" in capsys.readouterr().err
