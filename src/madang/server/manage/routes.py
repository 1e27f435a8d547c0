"""All routes of the own API."""

from __future__ import annotations

from fastapi import FastAPI

from madang.runtime.outlook import Outlook
from madang.runtime.tokens import Tokenizers
from madang.server.comparisons import Comparisons
from madang.server.manage import (
    catalog,
    collections,
    comparisons,
    ingests,
    machine,
    models,
    personas,
    pulls,
    runs,
    sessions,
    tokens,
)
from madang.server.state import ServerState

PREFIX = "/madang/v1"


def include(app: FastAPI) -> None:
    """Add the routes below ``/madang/v1``."""
    state: ServerState = app.state.server
    app.state.tokenizers = Tokenizers(state.settings)
    app.state.outlook = Outlook(state.settings.home)
    app.state.comparisons = Comparisons(state.settings)
    server = (models, catalog, comparisons, pulls, machine, runs, tokens)
    for group in (*server, sessions, personas, collections, ingests):
        app.include_router(group.router, prefix=PREFIX, tags=["madang"])
