"""Which API's words a failure is told in: that of the path that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from madang.core.errors import MadangError
from madang.server.anthropic.errors import error_body as anthropic_body
from madang.server.event_stream import as_json
from madang.server.failures import headers_of, status_of
from madang.server.manage.errors import error_body as manage_body
from madang.server.ollama.errors import error_body as ollama_body
from madang.server.openai.errors import error_body as openai_body

_log = logging.getLogger("madang.server")

# The first prefix that fits; each API adds its own.
_SHAPES: tuple[tuple[str, Callable[[BaseException, int], dict[str, Any]]], ...] = (
    ("/v1/messages", anthropic_body),
    ("/api/", ollama_body),
    ("/madang/", manage_body),
    ("/", openai_body),
)


def failure_response(
    path: str, error: BaseException, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that failed before it had one; ``status`` where it is not that of the error's class."""
    status = int(status_of(error)) if status is None else status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(error, MadangError):
        _log.warning(error.message, extra={"code": error.code})
    shape = next(shape for prefix, shape in _SHAPES if path.startswith(prefix))
    headers = headers_of(error) | dict(headers or {})
    return Response(as_json(shape(error, status)), status, headers, media_type="application/json")
