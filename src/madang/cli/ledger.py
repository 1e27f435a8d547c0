"""What a verb measured goes into the ledger that ``madang runs`` shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from madang.cli.console import note
from madang.core.errors import StorageError

if TYPE_CHECKING:
    from madang.storage import Experiment, Experiments


def ledger(home: Path) -> Experiments:
    """The one of this installation."""
    from madang.storage import DATABASE_FILE, Database, Experiments

    return Experiments(Database(home / DATABASE_FILE))


def keep_run(home: Path, own: Experiment) -> int | None:
    """Its number in the ledger; None where the database fails, which costs nothing but that, and is told."""
    try:
        return ledger(home).add(own)
    except StorageError as error:
        note(f"This result is not kept in the ledger: {error.message}")
        return None


def tell_run(id: int | None) -> None:
    """Where it is found again."""
    if id is not None:
        note(f"Kept as run {id}; see: madang runs show {id}")
