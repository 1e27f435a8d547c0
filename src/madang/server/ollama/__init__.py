"""The API of Ollama, for clients that were written for it.

One file per route group (listing, conversing, embedding, pulling, making), and beside them the pure translations:
asking (wire -> core.Request), answering (events -> lines), names, durations, history.
"""

from __future__ import annotations

from fastapi import FastAPI

from madang.models import Sources
from madang.server.pulls import Pulls


def include(app: FastAPI, sources: Sources | None = None) -> None:
    """Add the routes. ``sources`` is where models are pulled from; None is where they usually come from."""
    from madang.server.ollama import conversing, embedding, listing, making, pulling

    app.state.pulls = Pulls(app.state.server.store, sources)
    for group in (listing, conversing, embedding, pulling, making):
        app.include_router(group.router)
