"""The application: every route group, and what happens before the first and after the last request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from madang.server import openai
from madang.server.bridge import in_thread
from madang.server.state import ServerState


def create_app(state: ServerState) -> FastAPI:
    """Everything that is served over HTTP. When it ends, the pool is closed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await in_thread(state.pool.close)

    # The pages of FastAPI's own documentation come from other hosts, which a closed network does not reach.
    app = FastAPI(title="madang", version=state.version, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = state
    openai.include(app)
    return app
