"""Sessions: make, find, read, change, branch, export, import, remove. A caller reaches its own only."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, PlainTextResponse, Response

from madang.chat import Changes, Session, Turn, chained
from madang.chat.transcripts import (
    Transcript,
    from_document,
    from_markdown,
    session_document,
    to_document,
    to_markdown,
    turn_document,
)
from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.server.bridge import in_thread
from madang.server.exchanges import SETTLE_S
from madang.server.history import History, Kept, caller
from madang.server.manage.documents import sessions as wire

router = APIRouter()

MOST_SESSIONS = 1000  # in one answer


@router.get("/sessions")
async def list_sessions(
    history: Kept,
    query: Annotated[str, Query(max_length=400)] = "",
    before: Annotated[float | None, Query(ge=0, le=1e12)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SESSIONS)] = 100,
) -> wire.SessionStates:
    """The caller's sessions, the last used first; those that say all words of ``query``.

    ``before`` is a time in seconds since 1970: that of the last session on the page before.
    """
    found = await in_thread(partial(history.sessions.find, caller(), query, before=before, limit=limit))
    return wire.SessionStates(sessions=[_state(session) for session in found])


@router.post("/sessions", status_code=201)
async def create_session(wanted: wire.SessionRequest, history: Kept) -> wire.SessionState:
    """Begin a session. Chat requests that name it (``madang.session``) are kept in it."""
    return _state(await in_thread(partial(history.sessions.create, caller(), _changes(wanted))))


@router.post("/sessions/import", status_code=201)
async def import_session(wanted: wire.ImportRequest, history: Kept) -> wire.SessionState:
    """Make a session of what was exported, here or elsewhere. It has ids of its own."""
    transcript = await in_thread(partial(_transcript, wanted))
    create = partial(history.sessions.create, caller(), transcript.changes, transcript.turns)
    return _state(await in_thread(create))


@router.get("/sessions/{id}")
async def show_session(id: str, history: Kept, branches: bool = False) -> wire.WholeSession:
    """One session with its conversation, or with every message of every branch."""
    return await in_thread(partial(_whole, history, caller(), id, branches))


@router.post("/sessions/{id}")
async def change_session(id: str, wanted: wire.SessionRequest, history: Kept) -> wire.SessionState:
    """Give it another title, model, persona or context policy, or other tags."""
    return _state(await in_thread(partial(history.sessions.change, caller(), id, _changes(wanted))))


@router.delete("/sessions/{id}")
async def remove_session(id: str, history: Kept) -> wire.RemovedSession:
    """Delete it, with everything that was said in it."""
    await in_thread(partial(history.sessions.remove, caller(), id))
    return wire.RemovedSession(id=id)


@router.post("/sessions/{id}/messages", status_code=201)
async def add_messages(id: str, wanted: wire.NewMessages, history: Kept) -> wire.WholeSession:
    """Add what was said elsewhere, at the end or as a branch."""
    return await in_thread(partial(_added, history, caller(), id, wanted))


@router.post("/sessions/{id}/branch")
async def branch_session(id: str, wanted: wire.BranchRequest, history: Kept) -> wire.SessionState:
    """Go on from another message. What came after it stays in its own branch."""
    return _state(await in_thread(partial(history.sessions.go_on_from, caller(), id, wanted.message)))


@router.get(
    "/sessions/{id}/export",
    response_class=Response,
    responses={200: {"content": {"application/json": {}, "text/markdown": {}}, "description": "The session."}},
)
async def export_session(id: str, history: Kept, format: Literal["json", "markdown"] = "json") -> Response:
    """A session as a file: JSON with every branch, or the conversation as Markdown."""
    return await in_thread(partial(_exported, history, caller(), id, format))


def _changes(wanted: wire.SessionRequest) -> Changes:
    tags = None if wanted.tags is None else tuple(wanted.tags)
    return Changes(wanted.title, wanted.model, wanted.persona, wanted.context_policy, tags)


def _transcript(wanted: wire.ImportRequest) -> Transcript:
    match wanted.document, wanted.markdown:
        case dict(document), None:
            return from_document(document)
        case None, str(markdown):
            return from_markdown(markdown)
    raise InvalidRequest("An import has either a document or markdown.", param="document")


def _whole(history: History, owner: str, id: str, branches: bool) -> wire.WholeSession:
    history.journal.settle(SETTLE_S)
    session = history.sessions.get(owner, id)
    turns = (history.sessions.turns if branches else history.sessions.path)(owner, id)
    return wire.WholeSession(**session_document(session), messages=[_message(turn) for turn in turns])


def _added(history: History, owner: str, id: str, wanted: wire.NewMessages) -> wire.WholeSession:
    history.journal.settle(SETTLE_S)
    parent = history.sessions.get(owner, id).head if wanted.parent is None else wanted.parent or None
    if parent is not None:
        history.sessions.path(owner, id, parent)  # whether there is such a message
    said = [Message(message.role, message.content) for message in wanted.messages]
    history.sessions.append(owner, id, chained(parent, said))
    return _whole(history, owner, id, False)


def _exported(history: History, owner: str, id: str, format: str) -> Response:
    history.journal.settle(SETTLE_S)
    session = history.sessions.get(owner, id)
    if format == "markdown":
        markdown = to_markdown(session, history.sessions.path(owner, id))
        return PlainTextResponse(markdown, media_type="text/markdown; charset=utf-8", headers=_file(id, "md"))
    return JSONResponse(to_document(session, history.sessions.turns(owner, id)), headers=_file(id, "json"))


def _file(id: str, suffix: str) -> dict[str, str]:
    """A download, never a page: what people said may look like one. The id was found, so it is one of ours."""
    return {"Content-Disposition": f'attachment; filename="{id}.{suffix}"'}


def _state(session: Session) -> wire.SessionState:
    return wire.SessionState(**session_document(session))


def _message(turn: Turn) -> wire.SessionMessage:
    return wire.SessionMessage(**turn_document(turn))
