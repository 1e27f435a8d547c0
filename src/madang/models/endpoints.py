"""Models that run elsewhere: an address, how it is spoken to, and the model's name there. Nothing of them lies here.

remote:https://host/v1#model                any server with OpenAI's API
remote:vllm+http://host:8000/v1#model       the same, with what a kind of server has beyond it
remote:ollama-server+http://host#model      Ollama's own API
vllm:model                                  the usual address of a kind on this machine; the kinds are in ENDPOINT_KINDS
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from madang.core.errors import InvalidReference, did_you_mean

PLAIN: Final = "openai"
OLLAMA: Final = "ollama-server"
# Each kind of server, and where it listens if nobody said otherwise.
ENDPOINT_KINDS: Final[Mapping[str, str]] = {
    "vllm": "http://127.0.0.1:8000/v1",
    "lmstudio": "http://127.0.0.1:1234/v1",
    "localai": "http://127.0.0.1:8080/v1",
    OLLAMA: "http://127.0.0.1:11434",
}
SCHEMES: Final = ("remote", *ENDPOINT_KINDS)
MAX_CHARACTERS: Final = 2048

_FORM: Final = "Write remote:https://host/v1#model, or for a server on this machine vllm:model."
_ADDRESS: Final = re.compile(r"(?:([a-z-]+)\+)?(https?://[^#]+)#(.+)")


@dataclass(frozen=True, slots=True)
class EndpointReference:
    """A model of a server. ``url`` has no slash at its end, no query and no credentials; ``kind`` is PLAIN or a key."""

    kind: str
    url: str
    model: str

    def __str__(self) -> str:
        if ENDPOINT_KINDS.get(self.kind) == self.url:
            return f"{self.kind}:{self.model}"
        kind = "" if self.kind == PLAIN else f"{self.kind}+"
        return f"remote:{kind}{self.url}#{self.model}"


def read_endpoint(text: str) -> EndpointReference | None:
    """The endpoint that a reference names; None when it names files.

    Raises InvalidReference for an address that is none, or that has a password in it: references go into logs.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    if len(text) > MAX_CHARACTERS or not rest.isprintable():
        raise InvalidReference(
            f"An address and a model have at most {MAX_CHARACTERS} printable characters.", param="model", hint=_FORM
        )
    if scheme != "remote":
        if not rest or "://" in rest:
            raise InvalidReference(
                f"'{scheme}:' is followed by the name of a model.",
                param="model",
                hint=f"For another address, write remote:{scheme}+http://host:port/v1#model.",
            )
        return EndpointReference(scheme, ENDPOINT_KINDS[scheme], rest)
    match = _ADDRESS.fullmatch(rest)
    if match is None:
        raise InvalidReference("'remote:' needs an address and a model.", param="model", hint=_FORM)
    return EndpointReference(_kind(match[1]), _checked_url(match[2]), match[3])


def _kind(word: str | None) -> str:
    kind = PLAIN if word is None else word
    if kind not in (PLAIN, *ENDPOINT_KINDS):
        known = tuple(ENDPOINT_KINDS)
        hint = did_you_mean(kind, known) or f"Known: {', '.join(known)}; without one it is OpenAI's API."
        raise InvalidReference(f"There is no kind of server named '{word}'.", param="model", hint=hint)
    return kind


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_right = parts.port != 0
    except ValueError:  # of a port or an IPv6 address
        raise InvalidReference("The address of the model is none.", param="model", hint=_FORM) from None
    if not parts.hostname or not port_is_right or parts.query or " " in url or not url.isascii():
        raise InvalidReference(f"'{parts.netloc}' is not the address of a server.", param="model", hint=_FORM)
    if parts.username is not None or parts.password is not None:
        raise InvalidReference(
            "The address of the model has a name or password in it.",
            param="model",
            hint="Put the key into an environment variable, and name that with --remote-key.",
        )
    return url.rstrip("/")
