"""The ledger of experiments gives back what was put in, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from madang.core.errors import NotFound
from madang.storage import Database, Experiment, Experiments

MADE = datetime(2026, 11, 21, 12, tzinfo=UTC)


def experiment(kind: str = "eval", model: str = "m") -> Experiment:
    facts, document = {"scores": {"t": {"value": 0.5}}}, {"tasks": [{"이름": "과제"}]}
    return Experiment(kind=kind, model=model, digest="d", made_at=MADE, seconds=1.5, facts=facts, document=document)


@pytest.fixture
def ledger(tmp_path: Path) -> Experiments:
    return Experiments(Database(tmp_path / "madang.db"))


def test_what_was_kept_is_found_whole(ledger: Experiments) -> None:
    id = ledger.add(experiment())
    found = ledger.find(id)
    assert (found.id, found.kind, found.made_at, found.seconds) == (id, "eval", MADE, 1.5)
    assert found.document == experiment().document


def test_lists_are_the_newest_first_without_documents(ledger: Experiments) -> None:
    ids = [ledger.add(experiment(kind, model)) for kind, model in (("eval", "m"), ("tune", "m"), ("eval", "other"))]
    assert [own.id for own in ledger.list()] == ids[::-1]
    assert [own.id for own in ledger.list(kind="eval", model="m")] == ids[:1]
    assert [own.id for own in ledger.list(limit=1)] == ids[-1:]
    assert ledger.list()[0].document == {} and ledger.list()[0].facts == experiment().facts


def test_what_was_removed_is_gone_and_its_number_stays_free(ledger: Experiments) -> None:
    first = ledger.add(experiment())
    ledger.remove(first)
    with pytest.raises(NotFound, match=f"no run '{first}'"):
        ledger.find(first)
    with pytest.raises(NotFound):
        ledger.remove(first)
    assert ledger.add(experiment()) > first
