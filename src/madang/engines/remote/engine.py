"""A model that another server runs, as an engine like any other.

What it leaves to the server: how many requests run at once and which of them first (``priority`` is not sent), and
what an unset sampling parameter means. What a server does not tell stays open: tokens have the number -1 where it gives
only their texts, and usage counts pieces where it sends no usage.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

from madang.core.engine import Embeddings, EngineInfo
from madang.core.errors import EngineError, InvalidReference, InvalidRequest
from madang.core.events import Event
from madang.core.request import Request
from madang.core.stopwatch import Stopwatch
from madang.engines.remote.answer import RemoteAnswer
from madang.engines.remote.connection import Server
from madang.engines.remote.ollama import OllamaApi
from madang.engines.remote.openai import OpenAIApi
from madang.models import EndpointReference, read_endpoint
from madang.models.endpoints import OLLAMA

UNKNOWN_CONTEXT_TOKENS: Final = 32_768  # taken for servers that do not say; they refuse what is too much themselves
MAX_CONCURRENCY: Final = 64
_SEED_BITS: Final = 31  # what every server takes


class RemoteEngine:
    """A model of a server. Threads may share it; each request has a connection of its own."""

    def __init__(self, info: EngineInfo, api: OpenAIApi | OllamaApi) -> None:
        self.info = info
        self._api = api
        self._closed = False

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer; closing the iterator closes the connection, at which servers stop.

        Raises InvalidRequest for what the server has no word for, and what connection.py says.
        """
        self._check_open()
        sampling = request.sampling
        seed = random.SystemRandom().getrandbits(_SEED_BITS) if sampling.seed is None else sampling.seed
        n_ctx = self.info.context_tokens if request.context_tokens is None else request.context_tokens
        answer = RemoteAnswer(request, seed, n_ctx, Stopwatch(load_s=self.info.load_s))
        with closing(self._api.pieces(request, seed % (1 << _SEED_BITS))) as pieces:
            yield from answer.events(pieces)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of the texts, in order, as the server makes them."""
        self._check_open()
        return self._api.embed(list(texts)) if texts else Embeddings((), 0)

    def close(self) -> None:
        """Refuse everything from now on; there is nothing to free."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(f"The engine of {self.info.model} is closed.")


def connect(reference: str, context_tokens: int | None = None, *, key: str | None = None) -> RemoteEngine:
    """The engine of a reference such as ``remote:https://host/v1#model``; ``key`` goes to that address only.

    Raises InvalidReference, InvalidRequest for a key that is none, and EngineUnavailable, ModelNotFound when the server
    is not there or does not know it.
    """
    endpoint = read_endpoint(reference)
    if endpoint is None:
        raise InvalidReference(
            f"The remote engine needs an address, and '{reference}' has none.",
            param="model",
            hint="Write remote:https://host/v1#model, or for a server on this machine vllm:model.",
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidRequest(
            "The key of the server has characters that no header can carry.",
            param="remote_key",
            hint="Does the variable end with a line break?",
        )
    return open_endpoint(endpoint, Server(endpoint.url, endpoint.model, key), context_tokens)


def open_endpoint(endpoint: EndpointReference, server: Server, context_tokens: int | None = None) -> RemoteEngine:
    """The same with a server whose time-outs are set."""
    started = time.perf_counter()
    api = OllamaApi(server) if endpoint.kind == OLLAMA else OpenAIApi(server, endpoint.kind)
    told = api.context_tokens()
    info = EngineInfo(
        engine="remote",
        model=str(endpoint),
        context_tokens=context_tokens or told or UNKNOWN_CONTEXT_TOKENS,
        max_concurrency=MAX_CONCURRENCY,
        load_s=time.perf_counter() - started,
    )
    return RemoteEngine(info, api)
