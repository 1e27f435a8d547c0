"""What the routes of the Ollama API share."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.server.line_stream import Lines, stream_lines
from madang.server.ollama.body import Body, parse_body
from madang.server.ollama.errors import error_body
from madang.server.state import ServerState


def state_of(http: HttpRequest) -> ServerState:
    """What all routes share."""
    state: ServerState = http.app.state.server
    return state


async def body_of(http: HttpRequest) -> Body:
    """The JSON of a request, whatever its content type says. Raises InvalidRequest."""
    return parse_body(await http.body())


async def streamed(http: HttpRequest, lines: Lines) -> Response:
    """The lines as they come."""
    return await stream_lines(http, lines, error_body)
