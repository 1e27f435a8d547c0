"""Questions of the command line to a server that runs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from madang.cli.serve import DEFAULT_PORT
from madang.core.errors import InvalidKey, InvalidRequest, MadangError, NetworkUnavailable

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
KEY_VARIABLE = "MADANG_API_KEY"
TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 16 << 20

Server = Annotated[
    str, typer.Option("--server", metavar="URL", help=f"Where the server is; {KEY_VARIABLE} is the key it is sent.")
]


def ask(url: str, path: str, environment: Mapping[str, str]) -> Any:
    """The JSON document at a path of the server.

    Redirects are not followed: the key is for this server alone. Raises InvalidRequest for what is no URL,
    NetworkUnavailable, InvalidKey, MadangError for any other answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"'{url}' is not the address of a server.", param="server", hint=f"Write {DEFAULT_URL}.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    secret = environment.get(KEY_VARIABLE)
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    try:
        connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NetworkUnavailable(
            f"No server answers at {parts.scheme}://{parts.netloc.rpartition('@')[2]} ({type(error).__name__}).",
            hint="Start one with 'madang serve', or say where it is with --server URL.",
        ) from error
    if response.status == http.HTTPStatus.UNAUTHORIZED:
        raise InvalidKey("The server wants an API key.", hint=f"Put it into {KEY_VARIABLE}.")
    if response.status != http.HTTPStatus.OK:
        raise MadangError(f"The server answered {response.status} when asked for {path}.")
    try:
        return json.loads(body)
    except ValueError as error:
        raise MadangError("What answers there is not madang.", hint="Say where the server is with --server.") from error
