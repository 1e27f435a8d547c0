"""Conversations that are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from madang.chat import ContextPolicy
from madang.server.manage.documents.base import Document, Request


class SessionState(Document):
    """A conversation that is kept. ``head`` is the message that it ends with now.

    ``title_by`` says who gave it its title: the first question, its model, or a person. Tags and summary are what its
    model says it is about, unless a person did.
    """

    id: str
    title: str
    title_by: Literal["question", "model", "person"]
    tags: list[str]
    summary: str
    created_at: datetime
    updated_at: datetime
    model: str | None
    persona: str | None
    context_policy: ContextPolicy
    head: str | None


class SessionStates(Document):
    """The caller's, the last used first."""

    sessions: list[SessionState]


class SessionMessage(Document):
    """One turn. ``state`` is partial for an answer that was cut; ``facts``: usage, timings and ledger of an answer."""

    id: str
    parent: str | None
    role: str
    content: str
    reasoning: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str | None
    name: str | None
    state: Literal["whole", "partial"]
    model: str | None
    facts: dict[str, Any]
    created_at: datetime


class WholeSession(SessionState):
    """With its messages: the conversation up to the head, or all branches."""

    messages: list[SessionMessage]


class SessionRequest(Request):
    """What a session is to be. What is left out stays; an empty model or persona is none.

    A title that is given stays; an empty one lets the next question give it. Tags that are given stay, too.
    """

    title: str | None = None
    model: str | None = None
    persona: str | None = None
    context_policy: ContextPolicy | None = None
    tags: list[str] | None = Field(default=None, max_length=16)


class NewMessage(Request):
    """A turn that was said elsewhere."""

    role: Literal["user", "assistant"]
    content: str


class NewMessages(Request):
    """What to add to a session. ``parent`` is the message that they follow: unset the last, "" none."""

    messages: list[NewMessage] = Field(min_length=1, max_length=4096)
    parent: str | None = None


class BranchRequest(Request):
    """The message that the conversation ends with from now on; null is before the first."""

    message: str | None


class ImportRequest(Request):
    """A session that was exported: its JSON in ``document``, or its Markdown."""

    document: dict[str, Any] | None = None
    markdown: str | None = None


class RemovedSession(Document):
    """It is gone, with everything that was said in it."""

    id: str
