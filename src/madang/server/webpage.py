"""The page for people: what ``make page`` built of ``web/``, as files. It holds no data, so it needs no key.

Everything that it shows it asks of the same API as every client, with the key that its reader types in.
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER: Final = Path(__file__).parent / "page"  # not in git; in wheels
# A browser's own visit to one of these shows the page; the screens are those of web/src/app/screens.tsx.
SCREENS: Final = frozenset({"chat", "documents", "models", "compare", "monitor", "tokens", "settings"})
LOOSE: Final = frozenset({"/favicon.svg", "/scheme.js"})
ASSETS: Final = "/assets/"

_ASSET = re.compile(r"/assets/([A-Za-z0-9_][A-Za-z0-9._-]*)")  # one folder deep, and never hidden
_NONCE: Final = "__NONCE__"
# What a build names after its content may be kept for ever; what has a name for ever is asked about each time.
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = "no-cache"
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'nonce-{nonce}'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>madang</title>
<h1>madang is running</h1>
<p>Its page is not built here. In a checkout, <code>make page</code> builds it (that needs Node.js 20.19 or newer);
packages from an index have it built already.</p>
<p lang="ko">페이지가 아직 만들어지지 않았습니다. 소스 폴더에서 <code>make page</code>를 실행하세요.</p>
<p>Clients of OpenAI find this server at <code>/v1</code>, clients of Ollama at this address;
<a href="/openapi.json">what it answers to</a>.</p></html>
"""


def is_built(folder: Path = FOLDER) -> bool:
    """Whether there is a page to show."""
    return (folder / "index.html").is_file()


def is_page(scope: Scope) -> bool:
    """Whether a request is for the page itself, which is for everybody: no route of an API ever is.

    A screen may be called as a route is (``/models``), so only a browser's own visit, which asks for HTML, gets it.
    """
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    if path.startswith(ASSETS) or path in LOOSE:
        return True
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return (path == "/" or first in SCREENS) and "text/html" in Headers(scope=scope).get("accept", "")


class PageLayer:
    """Answers what is for the page, and passes on everything else."""

    def __init__(self, app: ASGIApp, folder: Path = FOLDER) -> None:
        self._app = app
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if is_page(scope):
            await self._answer(scope["path"], Headers(scope=scope))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _answer(self, path: str, headers: Headers) -> Response:
        asset = _ASSET.fullmatch(path)
        if asset is not None:
            return self._file(self._folder / "assets" / asset[1], headers, _FOR_EVER)
        if path in LOOSE:
            return self._file(self._folder / path[1:], headers, _ASK_EACH_TIME)
        if path.startswith(ASSETS):
            return _nothing()
        return self._index()

    def _index(self) -> Response:
        """With a number of its own for the styles that the page makes while it runs."""
        nonce = secrets.token_urlsafe(16)
        built = is_built(self._folder)
        html = _text(self._folder / "index.html").replace(_NONCE, nonce) if built else _NOT_BUILT
        policy = _POLICY.format(nonce=nonce)
        shown = {"Content-Security-Policy": policy, "Cache-Control": _ASK_EACH_TIME, "Vary": "Accept"}
        return HTMLResponse(html, headers={**_HEADERS, **shown})

    def _file(self, path: Path, headers: Headers, cached: str) -> Response:
        """A file as it was built, in the smallest form that the browser takes."""
        if not path.is_file():
            return _nothing()
        kept: Mapping[str, str] = {**_HEADERS, "Cache-Control": cached, "Vary": "Accept-Encoding"}
        accepted = {part.partition(";")[0].strip() for part in headers.get("accept-encoding", "").split(",")}
        for encoding, suffix in _ENCODINGS:
            packed = path.with_name(path.name + suffix)
            if encoding in accepted and packed.is_file():
                return FileResponse(packed, headers={**kept, "Content-Encoding": encoding}, media_type=_media(path))
        return FileResponse(path, headers=dict(kept), media_type=_media(path))


def _nothing() -> Response:
    return Response("There is no such file of the page. Load it again.", 404, _HEADERS, "text/plain; charset=utf-8")


def _media(path: Path) -> str:
    """By the name alone. What the system's tables say of ``.js`` differs, and browsers run no other type."""
    known = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".woff2": "font/woff2"}
    return known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


@lru_cache(1)
def _read(path: Path, modified_ns: int) -> str:
    return path.read_text(encoding="utf-8")


def _text(path: Path) -> str:
    return _read(path, path.stat().st_mtime_ns)
