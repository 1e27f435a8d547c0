"""All routes of the own API."""

from __future__ import annotations

from fastapi import FastAPI

from madang.server.manage import machine, models, pulls

PREFIX = "/madang/v1"


def include(app: FastAPI) -> None:
    """Add the routes below ``/madang/v1``."""
    for group in (models, pulls, machine):
        app.include_router(group.router, prefix=PREFIX, tags=["madang"])
