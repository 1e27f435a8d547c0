"""Answers of the layers around the application: the same errors, in the shape that the path's API has."""

from __future__ import annotations

import json
import math
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from madang.core.errors import InvalidKey, MadangError, TryLater
from madang.server.failures import sentence_of, status_of

_OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


async def refuse(scope: Scope, receive: Receive, send: Send, error: MadangError) -> None:
    """Answer with ``error`` and close the connection, for its request may not have been read to the end."""
    status = status_of(error)
    body = json.dumps(_body(scope["path"], status, error), ensure_ascii=False).encode()
    start: Message = {"type": "http.response.start", "status": status.value, "headers": []}
    headers = MutableHeaders(scope=start)
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    if isinstance(error, TryLater):
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_s), 1))
    if isinstance(error, InvalidKey):
        headers["WWW-Authenticate"] = "Bearer"
    await send(start)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _body(path: str, status: HTTPStatus, error: MadangError) -> dict[str, object]:
    text = sentence_of(error)
    if path.startswith("/api/"):
        return {"error": text}
    default = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
    kind = _OPENAI_TYPES.get(status, default)
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": kind, "message": text}}
    return {"error": {"message": text, "type": kind, "param": getattr(error, "param", None), "code": error.code}}
