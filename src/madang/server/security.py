"""Who is let in: hosts, origins, keys, and what each key may do. Every rule stands in front of every route.

Host     a page that rebinds its own name to this machine still sends that name, so names have to be known
Origin   a browser says which page asks; a page of another origin is answered only if it is on the list
key      found in whatever header a client has for it, decided in one place
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from madang.core.errors import Forbidden, InvalidKey, InvalidRequest, MadangError, RateLimited
from madang.server.keys import ApiKey, KeyFile
from madang.server.refusals import refuse
from madang.server.visit import VISIT
from madang.server.webpage import is_page

PUBLIC_PATHS = frozenset({"/", "/health", "/ready"})
PREFLIGHT_MAX_AGE_S = 600
RETRY_CONCURRENCY_S = 1.0
_HEADERS_OF_CLIENTS = frozenset(
    {
        "accept",
        "accept-language",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "api-key",
        "authorization",
        "content-type",
        "openai-organization",
        "openai-project",
        "traceparent",
        "user-agent",
        "x-api-key",
        "x-request-id",
    }
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """How a server is guarded.

    bind           the address that it listens on
    keys           who may use it; with no key in the file everyone on this machine may
    hosts          further names that it is reached under, as behind a proxy: ``llm.example.org``
    origins        pages that may use it from a browser: ``https://chat.example.org``, ``chrome-extension://*``, ``*``
    allows_files   whether callers may name files of this machine as models
    """

    keys: KeyFile
    bind: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    allows_files: bool = False

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
                raise InvalidRequest(
                    f"'{origin}' is not an origin.", param="origins", hint="Write https://chat.example.org, no path."
                )


def check_bind(config: SecurityConfig) -> None:
    """Refuse to open a server to others without a key. Raises Forbidden; MadangError when the keys cannot be read."""
    if not config.keys.list() and not is_loopback(config.bind):
        raise Forbidden(
            f"{config.bind} can be reached from other machines, and there is no API key.",
            hint="Make one with 'madang keys add NAME', or stay on 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. Other names than ``localhost`` may point anywhere."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """The layer in front of the application; ``clock`` counts seconds."""

    def __init__(self, app: ASGIApp, config: SecurityConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._config = config
        self._shares = Shares(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or refuse it before anything of its body is read."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            check_host(headers, self._config)
            origin = check_origin(headers, self._config)
        except MadangError as error:
            await refuse(scope, receive, send, error)
            return
        if origin is not None:
            send = _with_cors(send, origin)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _preflight(headers, send)
                return
        try:
            key = self._authenticate(scope, headers)
            with self._shares.taken(key, counts=scope["method"] not in ("GET", "HEAD", "OPTIONS")):
                visit = VISIT.get()
                if visit is not None:
                    visit.key = key
                    visit.allows_files = self._config.allows_files
                await self._app(scope, receive, send)
        except _Refusal as refusal:
            await refuse(scope, receive, send, refusal.error)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:  # there are no sockets here; what comes later must pass the same rules
            await send({"type": "websocket.close", "code": 1008})

    def _authenticate(self, scope: Scope, headers: Headers) -> ApiKey | None:
        """The caller's key; None where none is needed."""
        try:
            if scope["path"] in PUBLIC_PATHS or is_page(scope) or not self._config.keys.list():
                return None
            return identify(headers, self._config.keys)
        except MadangError as error:
            raise _Refusal(error) from None


class _Refusal(Exception):
    """An error of this layer, kept apart from those that the application raises."""

    def __init__(self, error: MadangError) -> None:
        super().__init__(error.message)
        self.error = error


# ---- hosts and origins


def check_host(headers: Headers, config: SecurityConfig) -> None:
    """Raises Forbidden for a name that this server is not known by, on every bind.

    Numbers cannot be rebound; those of other interfaces than loopback are answered when the server is open to others.
    """
    values = headers.getlist("host")
    host = _host_name(values[0]) if len(values) == 1 else None
    if host is None or not _is_known(host, config):
        shown = repr(values[0][:80]) if values else "none"
        raise Forbidden(
            f"This server is not known under the host name {shown}.",
            hint="If that is its name, start it with --hosts NAME.",
        )


def _is_known(host: str, config: SecurityConfig) -> bool:
    if host == "localhost" or host.endswith(".localhost") or host in (name.lower() for name in config.hosts):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == config.bind.lower()
    return address.is_loopback or not is_loopback(config.bind)


def _host_name(value: str) -> str | None:
    """The name without its port, in lower case; None when it is not one."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", value)
    if match is None:
        return None
    return (match[1] or match[2]).lower().removesuffix(".")


def check_origin(headers: Headers, config: SecurityConfig) -> str | None:
    """The foreign origin that asks and may; None when none does. Raises Forbidden when it may not.

    A refusal comes before the request is looked at: a page may send what it cannot read the answer of.
    """
    values = headers.getlist("origin")
    if not values or (len(values) == 1 and _is_same(values[0], headers["host"])):
        return None
    origin = values[0]
    if len(values) == 1 and any(fnmatchcase(origin.lower(), allowed.lower()) for allowed in config.origins):
        return origin
    raise Forbidden(
        f"Pages of the origin {origin[:200]!r} may not use this server.",
        hint="If it is yours, start the server with --origins ORIGIN.",
    )


def _is_same(origin: str, host: str) -> bool:
    """A proxy may have ended TLS, so the scheme is not compared; a port that the scheme implies may be left out."""
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS.get(parts.scheme)
        ours = urlsplit(f"//{host}")
        return default is not None and (parts.hostname, parts.port or default) == (ours.hostname, ours.port or default)
    except ValueError:
        return False


def _with_cors(send: Send, origin: str) -> Send:
    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "*"
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_cors


async def _preflight(headers: Headers, send: Send) -> None:
    """Credentials stay off: keys are sent on purpose, never by the browser on its own."""
    asked = [name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")]
    allowed = [name for name in asked if name in _HEADERS_OF_CLIENTS or re.fullmatch(r"x-stainless-[a-z0-9-]+", name)]
    start: Message = {"type": "http.response.start", "status": 204, "headers": []}
    answer = MutableHeaders(scope=start)
    answer["Access-Control-Allow-Methods"] = "GET, HEAD, POST, DELETE"
    answer["Access-Control-Allow-Headers"] = ", ".join(allowed)
    answer["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_S)
    if "access-control-request-private-network" in headers:
        answer["Access-Control-Allow-Private-Network"] = "true"
    await send(start)
    await send({"type": "http.response.body", "body": b""})


# ---- keys


def identify(headers: Headers, keys: KeyFile) -> ApiKey:
    """The key that came along, in any header that a client has for it.

    Two different ones are refused, so that no header can go around the limits of another. Raises InvalidKey.
    """
    presented = set(_secrets(headers))
    if not presented:
        raise InvalidKey(
            "This server wants an API key.", hint="Send 'Authorization: Bearer KEY'; 'madang keys add' makes one."
        )
    key = keys.find(presented.pop()) if len(presented) == 1 else None
    if key is None:
        raise InvalidKey("This API key is not known here, or more than one came along.")
    return key


def _secrets(headers: Headers) -> Iterator[str]:
    for value in headers.getlist("authorization"):
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            case "bearer":
                yield rest.strip()
            case "basic":  # clients that were given https://name:key@host/
                yield _password(rest)
            case _:
                yield value
    for name in ("x-api-key", "api-key"):
        yield from (value.strip() for value in headers.getlist(name))


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Shares:
    """How much of its rate and concurrency each key has used. A rate is a bucket that fills up evenly."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # name -> requests left, and when that was so
        self._running: dict[str, int] = {}

    @contextmanager
    def taken(self, key: ApiKey | None, *, counts: bool) -> Iterator[None]:
        """A share of the key while the request runs. Raises _Refusal; questions that compute nothing are free."""
        if key is None or not counts:
            yield
            return
        self._check(key)
        self._running[key.name] = self._running.get(key.name, 0) + 1
        try:
            yield
        finally:
            self._running[key.name] -= 1

    def _check(self, key: ApiKey) -> None:
        if key.concurrency is not None and self._running.get(key.name, 0) >= key.concurrency:
            raise _Refusal(
                RateLimited(
                    f"The key '{key.name}' has {key.concurrency} requests running, which is its limit.",
                    retry_after_s=RETRY_CONCURRENCY_S,
                )
            )
        if key.requests_per_minute is None:
            return
        now_s, most = self._clock(), float(key.requests_per_minute)
        left, since_s = self._buckets.get(key.name, (most, now_s))
        left = min(most, left + (now_s - since_s) * most / 60)
        if left < 1:
            self._buckets[key.name] = left, now_s
            raise _Refusal(
                RateLimited(
                    f"The key '{key.name}' may send {key.requests_per_minute} requests per minute.",
                    retry_after_s=(1 - left) * 60 / most,
                )
            )
        self._buckets[key.name] = left - 1, now_s
