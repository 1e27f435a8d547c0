"""One exchange with a server at a time: JSON out, lines back, and every trouble as one of our errors.

The standard library's client on purpose: it follows no redirect, reads no proxy from the environment and keeps no
cookies, so the key goes to one place. Closing a reply closes its connection, which is how servers learn to stop.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from madang.core.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    MadangError,
    ModelNotFound,
)

CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 600.0  # a long prompt on a slow machine takes minutes until the first token
MAX_LINE_BYTES: Final = 4 << 20
MAX_BODY_BYTES: Final = 64 << 20  # vectors of many texts
MAX_ERROR_BYTES: Final = 64 << 10
BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0)
_MAX_PAUSE_S: Final = 10.0  # a server that wants a longer one is told of at once
_BUSY: Final = (429, 503)
_MAX_QUOTED: Final = 300


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send requests, for which model, and the key that opens it.

    silence_timeout_s   without a byte end an exchange
    busy_pauses_s       before a request is sent again to a server that is busy, where it says nothing of its own
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    silence_timeout_s: float = SILENCE_TIMEOUT_S
    busy_pauses_s: tuple[float, ...] = BUSY_PAUSES_S

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at ``path``. Raises what :meth:`lines` raises."""
        with self._reply("GET", path, None) as reply:
            return self._object(reply)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON; the JSON object that comes back. Raises what :meth:`lines` raises."""
        with self._reply("POST", path, body) as reply:
            return self._object(reply)

    def lines(self, path: str, body: Mapping[str, Any]) -> Iterator[bytes]:
        """Send JSON; the lines of the answer as they come, without their ends.

        Raises EngineUnavailable when nothing answers or the key is refused, ModelNotFound, InvalidRequest,
        ContextLengthExceeded, and EngineError for everything that is the server's fault.
        """
        with self._reply("POST", path, body) as reply:
            while line := reply.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise EngineError(f"{self.url} sent a line of more than {MAX_LINE_BYTES} bytes.")
                yield line.rstrip(b"\r\n")

    def failure(self, status: int, record: Mapping[str, Any]) -> MadangError:
        """What a status, and the error in a body or in the middle of a stream, mean here."""
        error = record.get("error", record)
        facts: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
        said = self._quoted(facts.get("message"))
        n_prompt, n_ctx = facts.get("n_prompt_tokens"), facts.get("n_ctx")
        if type(n_prompt) is int and type(n_ctx) is int:
            return ContextLengthExceeded(n_prompt, n_ctx)
        if status in (401, 403):
            hint = "Name the environment variable that holds its key with --remote-key."
            return EngineUnavailable(f"{self.url} refused the key{said}.", hint=hint)
        if status == 404:
            return ModelNotFound(f"{self.model} on {self.url}", hint=f"The server answered 404{said}.")
        if status in (400, 413, 422):
            param = facts.get("param")
            return InvalidRequest(
                f"{self.url} refused the request{said}.", param=param if isinstance(param, str) else None
            )
        if status in _BUSY:
            return EngineError(f"{self.url} is busy{said}.", hint="Try again later.")
        if 300 <= status < 400:
            return EngineError(f"{self.url} redirects, which is not followed.", hint="Name its final address.")
        return EngineError(f"{self.url} failed with status {status}{said}.")

    def _quoted(self, message: object) -> str:
        """What the server said, short, without the key that it may repeat."""
        if not isinstance(message, str) or not message.strip():
            return ""
        text = message if self.key is None else message.replace(self.key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return f': "{text[:_MAX_QUOTED].rstrip(".")}"'

    @contextmanager
    def _reply(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[http.client.HTTPResponse]:
        """A reply of status 200, whose connection ends with the block."""
        connection = self._connection()
        try:
            reply = self._exchange(connection, method, path, body)
            for pause_s in self.busy_pauses_s:
                asked_s = _seconds(reply.headers.get("Retry-After"))
                if reply.status not in _BUSY or (asked_s or 0.0) > _MAX_PAUSE_S:
                    break
                connection.close()
                time.sleep(pause_s if asked_s is None else asked_s)
                connection = self._connection()
                reply = self._exchange(connection, method, path, body)
            if reply.status != 200:
                raise self.failure(reply.status, _error_record(reply.read(MAX_ERROR_BYTES)))
            yield reply
        except TimeoutError as error:
            raise EngineError(f"{self.url} said nothing for {self.silence_timeout_s:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"The connection to {self.url} broke ({type(error).__name__}).") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, parts.port, timeout=self.connect_timeout_s, context=context)
        return http.client.HTTPConnection(host, parts.port, timeout=self.connect_timeout_s)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(
                f"{self.url} cannot be reached ({type(error).__name__}).",
                hint="Is the server running, at this address?",
            ) from error
        connection.sock.settimeout(self.silence_timeout_s)
        headers = {"Accept": "application/json, text/event-stream, application/x-ndjson"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, urlsplit(self.url).path + path, content, headers)
        return connection.getresponse()

    def _object(self, reply: http.client.HTTPResponse) -> dict[str, Any]:
        content = reply.read(MAX_BODY_BYTES + 1)
        if len(content) > MAX_BODY_BYTES:
            raise EngineError(f"{self.url} answered with more than {MAX_BODY_BYTES} bytes.")
        return self.record(content)

    def record(self, content: bytes) -> dict[str, Any]:
        """A JSON object, or EngineError."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise EngineError(f"{self.url} answered with something other than a JSON object.")
        return value


def _error_record(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    """What the header asks for; a date, which it may be as well, counts as nothing said."""
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None
