"""Downloads."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from madang.server.manage.documents.base import Document, Failure


class PullState(Document):
    """A download. ``completed_bytes`` may fall when a source has to begin a file again."""

    id: str
    model: str
    state: Literal["starting", "pulling", "done", "failed", "cancelled"]
    total_bytes: int | None
    completed_bytes: int
    started_at: datetime
    error: Failure | None


class PullStates(Document):
    """All that are under way, and the last that are over."""

    pulls: list[PullState]


class PullRequest(Document):
    """Which model to fetch."""

    model: str
