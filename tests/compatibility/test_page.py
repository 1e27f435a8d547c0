"""The published page says what the tests before this one have seen."""

from __future__ import annotations

import pytest

from tests.compatibility.matrix import PAGE, published_titles
from tests.compatibility.record import RECORD


def test_the_page_is_what_the_tests_saw(request: pytest.FixtureRequest) -> None:
    record = request.config.stash[RECORD]
    text = PAGE.read_text(encoding="utf-8")
    titles = published_titles(text)
    if not record.is_complete or set(titles) - set(record.clients):
        pytest.skip("not all tests of this folder ran, or some failed")
    # Versions are those of the day when it was written.
    assert record.page(titles) == text, "Write it again with: python -m tests.compatibility.matrix"
