"""The written reference: complete, and checked against the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.cli.reference import main, reference
from madang.core.settings import SETTINGS


def test_it_names_every_verb_option_and_setting() -> None:
    text = reference()
    for words in ("## madang run", "## madang doctor", "`--temperature T`", "`--catalog`", "(default 512)"):
        assert words in text
    assert all(setting.env in text for setting in SETTINGS)


def test_check_tells_a_fresh_page_from_a_stale_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "cli.md"
    assert main(["--check", str(page)]) == 1
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8") + "by hand", encoding="utf-8")
    assert main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
