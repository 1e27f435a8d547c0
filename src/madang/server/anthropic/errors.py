"""Errors in the words of Anthropic's API."""

from __future__ import annotations

from typing import Any

from madang.core.errors import ContextLengthExceeded
from madang.server.event_stream import named
from madang.server.failures import sentence_of, status_of

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_body(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """``{"type": "error", "error": …}``. A prompt that is too long comes with both numbers."""
    status = int(status_of(error)) if status is None else status
    body: dict[str, Any] = {"type": _TYPES.get(status, "api_error"), "message": sentence_of(error)}
    if isinstance(error, ContextLengthExceeded):
        body |= {"code": error.code, "n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return {"type": "error", "error": body}


def error_event(error: BaseException) -> bytes:
    """The same in a stream."""
    return named("error", error_body(error))
