"""The API of OpenAI, and what its relatives added to it."""

from __future__ import annotations

from fastapi import FastAPI


def include(app: FastAPI) -> None:
    """Add the routes, with and without ``/v1``."""
