"""The ledger of generations."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from madang.storage import Database, Run, Runs

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "madang.db")


def test_the_newest_come_first_page_by_page(database: Database) -> None:
    runs = Runs(database)
    ids = [runs.add(Run(model=f"m:{i % 2}", status="done", started_at=NOON, facts={"n": i})) for i in range(5)]
    assert [run.facts["n"] for run in runs.list("")] == [4, 3, 2, 1, 0]
    assert [run.id for run in runs.list("", limit=2)] == [ids[4], ids[3]]
    assert [run.id for run in runs.list("", before=ids[3], limit=2)] == [ids[2], ids[1]]
    assert {run.model for run in runs.list("", model="m:1")} == {"m:1"}
    assert runs.list("")[0].started_at == NOON


def test_a_caller_sees_its_own(database: Database) -> None:
    runs = Runs(database)
    for owner in ("", "laptop", "phone"):
        runs.add(Run(model="m:1", status="failed", started_at=NOON, owner=owner, facts={"code": "x"}))
    assert [run.owner for run in runs.list("laptop")] == ["laptop"]
    assert [run.owner for run in runs.list("")] == [""]
    assert len(runs.list(None)) == 3


def test_only_so_many_are_kept(database: Database) -> None:
    runs = Runs(database, most=10)
    for i in range(25):
        runs.add(Run(model="m:1", status="done", started_at=NOON, facts={"n": i}))
    kept = [run.facts["n"] for run in runs.list(None)]
    assert kept[0] == 24
    assert 10 <= len(kept) < 20
