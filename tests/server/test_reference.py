"""The written document: complete, and checked against the routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.server.reference import document, main


def test_it_has_every_route_and_the_types_of_our_own() -> None:
    record = json.loads(document())
    for path in ("/api/chat", "/api/pull", "/v1/models", "/madang/v1/models", "/madang/v1/pulls/{id}/events"):
        assert path in record["paths"]
    assert "total_bytes" in record["components"]["schemas"]["PullState"]["properties"]


def test_check_tells_a_fresh_document_from_a_stale_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "openapi.json"
    assert main(["--check", str(page)]) == 1
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    page.write_text(page.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert main(["--check", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
