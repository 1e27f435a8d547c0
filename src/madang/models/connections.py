"""HTTP as sources need it: patience with a line that breaks, and redirects that give nothing away.

A redirect never leaves the encrypted line, and a token never follows one to another host.
"""

from __future__ import annotations

import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

from madang.core.errors import SourceError

MAX_PAUSE_S = 120.0
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._/-]*)?")
_SECRETS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Connections:
    """How many at once, and how patient.

    timeout_s       without news on an open connection
    retry_s         pause after the first attempt that brought nothing; each next one waits twice as long
    max_attempts    in a row that bring nothing
    """

    at_once: int = 4
    timeout_s: float = 30.0
    retry_s: float = 1.0
    max_attempts: int = 5


class LineBroken(Exception):
    """No connection, or one that ended before its answer did."""


class Client:
    """GET with redirects. Raises LineBroken, ``HTTPError`` of urllib for a refusal, SourceError for a bad redirect."""

    def __init__(self, connections: Connections | None = None) -> None:
        self.connections = connections or Connections()
        handler = urllib.request.HTTPSHandler(context=_tls())
        self._opener = urllib.request.build_opener(handler, _SafeRedirects())

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
        """One attempt; the caller closes the answer."""
        identity = {"User-Agent": "madang", "Accept-Encoding": "identity"}  # ranges count bytes of the file itself
        request = urllib.request.Request(url, headers={**identity, **(headers or {})})
        try:
            return cast(HTTPResponse, self._opener.open(request, timeout=self.connections.timeout_s))
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException) as error:
            raise LineBroken(_reason(error)) from error

    def read(self, url: str, headers: Mapping[str, str], most_bytes: int) -> bytes:
        """A short text, whole; a server that is busy is asked again. Raises ValueError when it is longer."""
        attempts = Attempts(self.connections, urlsplit(url).netloc)
        while True:
            try:
                with self.open(url, headers) as response:
                    return _whole(response, most_bytes)
            except urllib.error.HTTPError as error:
                attempts.failed(error)


class Attempts:
    """Decides whether another attempt makes sense, and waits until it does."""

    def __init__(self, connections: Connections, host: str, stop: threading.Event | None = None) -> None:
        self._connections, self._host = connections, host
        self._stop = stop or threading.Event()
        self._n_vain = 0

    def failed(self, error: Exception, *, brought: bool = False) -> None:
        """Return when the next attempt is due; raise ``error`` when there should be none.

        A line that breaks again and again is worth going on with as long as each attempt ``brought`` something.
        """
        code, retry_after = _answer(error)
        if code is not None and code not in TRY_AGAIN:
            raise error
        self._n_vain = 0 if brought else self._n_vain + 1
        if self._n_vain >= self._connections.max_attempts:
            raise error
        asked_s = _retry_after_s(retry_after)
        if asked_s is not None and asked_s > MAX_PAUSE_S:
            raise SourceError(
                f"{self._host} is busy and asks to wait {asked_s:.0f} s.",
                hint="Pull again then; what has arrived is kept.",
            ) from error
        pause_s = self._connections.retry_s * 2 ** max(self._n_vain - 1, 0)
        self._stop.wait(pause_s if asked_s is None else asked_s)


def read_chunk(response: HTTPResponse, most_bytes: int) -> bytes:
    """What has come, empty at the end. Raises LineBroken."""
    try:
        return response.read1(most_bytes)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a chunk of no length
        raise LineBroken(_reason(error)) from error


def is_address(text: str) -> bool:
    """Whether it is the address of a server that a setting may name: nothing but host and path."""
    return _ADDRESS.fullmatch(text) is not None


def refusal_of(error: urllib.error.HTTPError) -> str:
    """The number and its name, without anything that the server wrote."""
    try:
        return f"{error.code} {HTTPStatus(error.code).phrase}"
    except ValueError:
        return str(error.code)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Files are often served from another host; but never over a weaker line, and not with the first host's token."""

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        """As the standard does, without secrets when the origin changes."""
        request: urllib.request.Request = args[0]
        old, new = urlsplit(request.full_url), urlsplit(args[-1])
        if new.scheme != "https" and new.scheme != old.scheme:
            raise SourceError(f"{old.netloc} sends us to {new.scheme}, away from {old.scheme}.")
        following = super().redirect_request(*args)
        if following is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            for name in [name for name in following.headers if name.lower() in _SECRETS]:
                following.remove_header(name)
        return following


def _tls() -> ssl.SSLContext:
    """The system's certificates; some builds of Python come without, and huggingface_hub brings certifi for them."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None and not context.get_ca_certs():
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _whole(response: HTTPResponse, most_bytes: int) -> bytes:
    content = b""
    while len(content) <= most_bytes and (chunk := read_chunk(response, most_bytes + 1 - len(content))):
        content += chunk
    if len(content) > most_bytes:
        raise ValueError("longer than it may be")
    promised = response.headers.get("Content-Length")
    if promised is not None and len(content) != int(promised):
        raise LineBroken("the answer ended early")
    return content


def _answer(error: Exception) -> tuple[int | None, str | None]:
    """Status and Retry-After of an error that is an answer, be it of urllib or of huggingface_hub's client."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return error.code, error.headers.get("Retry-After")
    response: Any = getattr(error, "response", None)
    if response is None:
        return None, None
    return response.status_code, response.headers.get("Retry-After")


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, or the time of day, as HTTP allows both; None for neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((at - datetime.now(UTC)).total_seconds(), 0.0) if at.tzinfo is not None else None


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__
