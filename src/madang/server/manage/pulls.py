"""Downloads: begin one, look at it, follow it, end it."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.server.manage.documents import pulls as wire
from madang.server.manage.errors import failure_of
from madang.server.manage.following import FOLLOWED, follow
from madang.server.names import find_origin
from madang.server.pulls import Pull, Pulls
from madang.server.scopes import MANAGES, is_visible

router = APIRouter()


@router.post("/pulls", status_code=202, dependencies=[MANAGES])
async def start_pull(wanted: wire.PullRequest, http: HttpRequest) -> wire.PullState:
    """Fetch a model. One that is being fetched already is joined; it goes on when the client leaves."""
    return _state(_pulls(http).start(find_origin(wanted.model)))


@router.get("/pulls")
async def list_pulls(http: HttpRequest) -> wire.PullStates:
    """Downloads that are under way, and the last that are over."""
    return wire.PullStates(pulls=[_state(pull) for pull in _pulls(http).list() if is_visible(str(pull.reference))])


@router.get("/pulls/{id}")
async def show_pull(id: str, http: HttpRequest) -> wire.PullState:
    """One download."""
    return _state(_found(http, id))


@router.get("/pulls/{id}/events", response_class=Response, responses=FOLLOWED)
async def follow_pull(id: str, http: HttpRequest) -> Response:
    """One download at each change, until it is over."""
    pull = _found(http, id)
    return await follow(http, partial(_state, pull), lambda: pull.progress.is_over)


@router.delete("/pulls/{id}", dependencies=[MANAGES])
async def cancel_pull(id: str, http: HttpRequest) -> wire.PullState:
    """End a download, whoever wants it; what arrived is kept for the next one."""
    pull = _found(http, id)
    pull.cancel()
    return _state(pull)


def _pulls(http: HttpRequest) -> Pulls:
    pulls: Pulls = http.app.state.pulls
    return pulls


def _found(http: HttpRequest, id: str) -> Pull:
    pull = _pulls(http).find(id)
    if pull is None or not is_visible(str(pull.reference)):
        raise HTTPException(404)
    return pull


def _state(pull: Pull) -> wire.PullState:
    progress = pull.progress
    return wire.PullState(
        id=pull.id,
        model=str(pull.reference),
        state=progress.state,
        total_bytes=progress.total_bytes,
        completed_bytes=progress.completed_bytes,
        started_at=pull.started_at,
        error=failure_of(progress.error),
    )
