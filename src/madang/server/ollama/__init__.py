"""The API of Ollama, for clients that were written for it.

One file per route group (listing, conversing, embedding, pulling, making), and beside them the pure translations:
asking (wire -> core.Request), answering (events -> lines), names, durations, history.
"""

from __future__ import annotations

from fastapi import FastAPI

from madang.models import Sources, sources_of
from madang.server.pulls import Pulls
from madang.server.state import ServerState


def include(app: FastAPI, sources: Sources | None = None) -> None:
    """Add the routes. ``sources`` is where models are pulled from; None is what the settings say."""
    from madang.server.ollama import conversing, embedding, listing, making, pulling

    state: ServerState = app.state.server
    app.state.pulls = Pulls(state.store, sources_of(state.settings) if sources is None else sources)
    for group in (listing, conversing, embedding, pulling, making):
        app.include_router(group.router)
