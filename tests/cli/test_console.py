"""Alignment, and what may reach a terminal."""

from __future__ import annotations

import pytest

from madang.cli.console import data_table, harmless


def test_columns_align_and_wide_characters_take_two_cells(capsys: pytest.CaptureFixture[str]) -> None:
    data_table([["NAME", "SIZE"], ["마당", "1"], ["yard", "200"], ["e\u0301t\u00e9", "3"]], right=[1])
    assert capsys.readouterr().out == "NAME  SIZE\n마당     1\nyard   200\ne\u0301t\u00e9      3\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("한글\tand\n🙂", "한글\tand\n🙂"),
        ("\x1b[2J", "\ufffd[2J"),
        ("a\rb\x00c\x7fd\x9be", "a\ufffdb\ufffdc\ufffdd\ufffde"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert harmless(text) == shown
