"""Errors in the words of OpenAI's API."""

from __future__ import annotations

from typing import Any

from madang.core.errors import ContextLengthExceeded, InvalidRequest, MadangError, ModelNotFound
from madang.server.event_stream import data
from madang.server.failures import sentence_of, status_of

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}

# What our requests call otherwise.
_PARAMS = {"constraint": "response_format", "reasoning": "reasoning_effort"}


def error_body(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """``{"error": …}``. A prompt that is too long comes with both numbers, as llama.cpp's server tells them."""
    status = int(status_of(error)) if status is None else status
    body: dict[str, Any] = {
        "message": sentence_of(error),
        "type": _TYPES.get(status, "api_error"),
        "param": None,
        "code": error.code if isinstance(error, MadangError) else "internal_error",
    }
    if isinstance(error, InvalidRequest) and error.param is not None:
        body["param"] = _PARAMS.get(error.param, error.param)
    if isinstance(error, ModelNotFound):
        body["param"] = "model"
    if isinstance(error, ContextLengthExceeded):
        # Clients look for one of two words: this server's type, or OpenAI's code.
        body |= {"type": error.code, "code": "context_length_exceeded"}
        body |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return {"error": body}


def error_event(error: BaseException) -> bytes:
    """The same in a stream; clients of this API raise when they read it."""
    return data(error_body(error))
