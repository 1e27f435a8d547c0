"""All routes of the own API."""

from __future__ import annotations

from fastapi import FastAPI

from madang.server.manage import collections, ingests, machine, models, personas, pulls, runs, sessions

PREFIX = "/madang/v1"


def include(app: FastAPI) -> None:
    """Add the routes below ``/madang/v1``."""
    for group in (models, pulls, machine, sessions, personas, runs, collections, ingests):
        app.include_router(group.router, prefix=PREFIX, tags=["madang"])
