"""The page that says which test stands for which promise names tests that exist, and all of this folder."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "reference" / "security.md"
TESTS = ROOT / "tests"


def rows() -> list[str]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not re.match(r"\| what[^|]* \|.* tests \|$", line)]


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def named(row: str) -> list[tuple[str, str]]:
    """File and function of each test in the last cell; a file alone is all of its tests."""
    cell = row.rstrip(" |").rpartition("|")[2]
    return [(file, name) for file, name in re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", cell)]


def test_every_row_has_tests_and_every_test_exists() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert named(row), row
        for file, name in named(row):
            assert (TESTS / file).is_file(), file
            assert not name or name in functions_of(TESTS / file), f"{file}::{name}"


def test_no_file_of_this_folder_is_left_out() -> None:
    told = {file for row in rows() for file, _ in named(row)}
    own = {f"server/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert own - told == {"server/security/test_index.py"}
