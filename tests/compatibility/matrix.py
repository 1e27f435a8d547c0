"""Runs the tests of this folder and publishes what they saw: ``python -m tests.compatibility.matrix``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.compatibility.record import RECORD, Record

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "compatibility.md"


class Witness:
    """Keeps the record of the run that it is part of."""

    record: Record | None = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """All tests have run."""
        self.record = session.config.stash.get(RECORD, None)


def published_titles(text: str) -> dict[str, str]:
    """The titles of the columns of a page, by the names of the clients."""
    head = next((line for line in text.splitlines() if line.startswith("|  |")), "")
    titles = [cell.strip() for cell in head.strip("|").split("|")]
    return {title.rsplit(" ", 1)[0] if title[-1:].isdigit() else title: title for title in titles if title}


def main() -> int:
    """Nothing is written when a test fails or cannot run."""
    witness = Witness()
    pytest.main([str(HERE), "--deselect", "tests/compatibility/test_page.py"], plugins=[witness])
    if witness.record is None or not witness.record.is_complete:
        print("Nothing was written: not all tests passed.", file=sys.stderr)
        return 1
    PAGE.write_text(witness.record.page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
