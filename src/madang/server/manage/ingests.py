"""Documents on their way into a collection: look at them, follow one, end one. A caller sees its own only."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.server.history import caller
from madang.server.ingests import Ingest
from madang.server.library import library_of
from madang.server.manage.documents import collections as wire
from madang.server.manage.errors import failure_of
from madang.server.manage.following import FOLLOWED, follow

router = APIRouter()


@router.get("/ingests")
async def list_ingests(http: HttpRequest) -> wire.IngestStates:
    """Documents that wait or are being read, and the last that are over."""
    return wire.IngestStates(ingests=[progress_of(job) for job in library_of(http).ingests.list(caller())])


@router.get("/ingests/{id}")
async def show_ingest(id: str, http: HttpRequest) -> wire.IngestProgress:
    """One of them."""
    return progress_of(_found(http, id))


@router.get("/ingests/{id}/events", response_class=Response, responses=FOLLOWED)
async def follow_ingest(id: str, http: HttpRequest) -> Response:
    """One of them at each change, until it is over."""
    job = _found(http, id)
    return await follow(http, partial(progress_of, job), lambda: job.is_over)


@router.delete("/ingests/{id}")
async def cancel_ingest(id: str, http: HttpRequest) -> wire.IngestProgress:
    """End one; the collection stays as it was. One that is over stays as it is."""
    job = _found(http, id)
    library_of(http).ingests.cancel(job)
    return progress_of(job)


def progress_of(job: Ingest) -> wire.IngestProgress:
    """One at this moment."""
    return wire.IngestProgress(
        id=job.id,
        collection=job.collection,
        name=job.name,
        state=job.state,
        n_chunks=job.n_chunks,
        n_embedded=job.n_embedded,
        document=job.document,
        error=failure_of(job.error),
        started_at=job.started_at,
    )


def _found(http: HttpRequest, id: str) -> Ingest:
    job = library_of(http).ingests.find(caller(), id)
    if job is None:
        raise HTTPException(404)
    return job
