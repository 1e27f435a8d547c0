"""Answers of the layers around the application, which its own handlers of errors do not reach."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from madang.server.shapes import failure_response


async def refuse(scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
    """Answer with ``error`` and close the connection, for its request may not have been read to the end."""
    response = failure_response(scope["path"], error)
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
