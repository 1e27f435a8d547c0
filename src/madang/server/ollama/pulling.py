"""POST /api/pull, with progress in Ollama's words; /api/push is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.core.errors import InvalidRequest
from madang.server.line_stream import whole
from madang.server.names import find_origin
from madang.server.ollama.body import Fields
from madang.server.ollama.responding import body_of, streamed
from madang.server.pulls import Pull, Pulls
from madang.server.scopes import MANAGES

router = APIRouter(tags=["ollama"])

POLL_S: Final = 0.1
PULL: Final = Fields(
    honoured=("model", "name", "stream"),
    ignored={"insecure": "models are fetched over the connections that this server is set up for"},
    refused=dict.fromkeys(("username", "password"), "madang takes no credentials from a request"),
)


@router.post("/api/pull", dependencies=[MANAGES], openapi_extra=PULL.described("model"))
async def pull(http: HttpRequest) -> Response:
    """Fetch a model; whoever asks for the same one meanwhile shares the download."""
    body = await body_of(http)
    warnings = PULL.check(body.fields)
    reference = find_origin(body.require_text("model", "name"))
    lines = _lines(http.app.state.pulls, reference, warnings)
    if body.flag("stream") in (None, True):
        return await streamed(http, lines)
    return JSONResponse((await whole(http, lines))[-1])


@router.post("/api/push")
async def push(http: HttpRequest) -> Response:
    """Refused: madang publishes nothing."""
    raise InvalidRequest(
        "madang does not publish models; upload the file with the tools of the hub that is to have it."
    )


async def _lines(pulls: Pulls, reference: Any, warnings: tuple[str, ...]) -> AsyncGenerator[dict[str, Any], None]:
    yield {"status": "pulling manifest"} | ({"madang": {"warnings": list(warnings)}} if warnings else {})
    with pulls.wanting(reference) as job:
        shown_progress = None
        while not (progress := job.progress).is_over:
            if progress.state == "pulling" and progress != shown_progress:
                shown_progress = progress
                yield _line(job)
            await asyncio.sleep(POLL_S)
        if progress.error is not None:
            raise progress.error
        yield _line(job)
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield {"status": status}


def _line(job: Pull) -> dict[str, Any]:
    progress, digest = job.progress, job.digest
    line: dict[str, Any] = {"status": f"pulling {digest.removeprefix('sha256:')[:12]}", "digest": digest}
    if progress.total_bytes is not None:
        line["total"] = progress.total_bytes
        line["completed"] = min(progress.completed_bytes, progress.total_bytes)
    return line
