"""Generations of the caller."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from madang.server.manage.documents.base import Document


class RunState(Document):
    """One generation. ``facts``: usage, timings and ledger, or the code of the error that ended it."""

    id: int
    model: str
    status: Literal["done", "failed", "cancelled"]
    started_at: datetime
    facts: dict[str, Any]


class RunStates(Document):
    """The caller's, the newest first."""

    runs: list[RunState]
