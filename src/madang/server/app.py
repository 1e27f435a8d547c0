"""The application: every route group, and what happens before the first and after the last request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from madang.core.errors import InvalidRequest, MadangError
from madang.server import anthropic, manage, monitoring, ollama, openai
from madang.server.bridge import in_thread
from madang.server.layers import enclose
from madang.server.shapes import failure_response
from madang.server.state import ServerState
from madang.server.webpage import PageLayer
from madang.server.wire import problem_of

CLIENT_CLOSED_REQUEST = 499  # nginx's; nobody reads it but logs


def create_app(state: ServerState) -> FastAPI:
    """Everything that is served over HTTP. When it ends, the pool is closed, and what waits is written."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.comparisons.cancel_all()
        await app.state.history.background.close()
        await in_thread(app.state.library.close)
        await in_thread(state.pool.close)
        await in_thread(app.state.history.close)
        if state.traces is not None:
            await in_thread(state.traces.close)

    # The pages of FastAPI's own documentation come from other hosts, which a closed network does not reach.
    app = FastAPI(title="madang", version=state.version, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = state
    app.add_middleware(JsonBodies)
    app.add_middleware(PageLayer)
    app.add_exception_handler(Exception, _failed)
    for kind in (MadangError, HTTPException, RequestValidationError, ClientDisconnect):
        app.add_exception_handler(kind, _failed)
    openai.include(app)
    anthropic.include(app)
    ollama.include(app)
    manage.include(app)
    drain, metrics = enclose(app, state)
    monitoring.include(app, state.pool, drain=drain, metrics=metrics)
    return app


class JsonBodies:
    """Takes every body for JSON, whatever its type: ``curl -d`` calls it a form, and many examples are written so.

    That a page of another origin may send forms without asking is met where origins are checked.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["method"] == "POST":
            kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            # In place: the layers outside look there for the route that was found.
            scope["headers"] = [*kept, (b"content-type", b"application/json")]
        await self._app(scope, receive, send)


async def _failed(http: HttpRequest, error: Exception) -> Response:
    path = http.url.path
    match error:
        case ClientDisconnect():
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        case RequestValidationError():
            return failure_response(path, problem_of(error.errors()))
        case HTTPException():
            return failure_response(
                path, InvalidRequest(_refusal(http, error)), status=error.status_code, headers=error.headers
            )
        case MadangError():
            return failure_response(path, error)
    return failure_response(path, error)  # it is raised again behind us, for the log


def _refusal(http: HttpRequest, error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return f"There is nothing at {http.url.path}."
        case 405:
            return f"{http.url.path} does not take {http.method}."
    return f"{error.detail.rstrip('.')}."
