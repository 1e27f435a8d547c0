"""The server, and what it runs on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from madang.server.manage.documents.base import Document


class Version(Document):
    """The server."""

    version: str
    started_at: datetime


class Setting(Document):
    """A setting of the server, and where its value came from."""

    name: str
    value: str | None
    origin: str


class EngineState(Document):
    """An engine, and the command that installs it."""

    name: str
    is_installed: bool
    formats: list[str]
    install: str


class Machine(Document):
    """What the server runs on. ``machine`` has what could be found out; null is unknown."""

    machine: dict[str, Any]
    engines: list[EngineState]
    settings: list[Setting]
    largest_model_bytes: int | None
