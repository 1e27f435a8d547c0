"""Who answers in a conversation."""

from __future__ import annotations

from pydantic import Field

from madang.server.manage.documents.base import Document, Request


class PersonaState(Request):
    """Who answers in a session. ``collections`` are names of documents to look into."""

    name: str
    style: str = ""
    system: str = ""
    model: str | None = None
    collections: list[str] = Field(default=[], max_length=64)


class PersonaStates(Document):
    """The caller's, by name."""

    personas: list[PersonaState]


class RemovedPersona(Document):
    """It is gone; sessions that name it go on without."""

    name: str
