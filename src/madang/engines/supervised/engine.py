"""A model that a server of others runs for us alone, on a port of the loopback interface, behind a key of its own.

A server that died is started again by the next request; the answer that it was giving ends with an error, as what it
would have said next cannot be known.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from madang.core.engine import Embeddings, EngineInfo
from madang.core.errors import EngineError
from madang.core.events import Event
from madang.core.request import Request
from madang.engines.child_process import ChildProcess
from madang.engines.remote.connection import Server
from madang.engines.remote.engine import RemoteEngine, open_endpoint
from madang.hardware import Plan
from madang.models import EndpointReference, ModelFiles
from madang.models.endpoints import PLAIN

MODEL: Final = "model"  # what it is called there
START_TIMEOUT_S: Final = 900.0  # large models are read from disk, and compiled for a card
_POLL_S: Final = 0.1
_WARDEN: Final = "madang.engines.supervised.warden"


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a server is started.

    arguments      with {path}, {port}, {context}, {threads} and {model} in them; the first is the program
    key_variable   of its environment, for the key that opens it: other users see arguments
    kind           what it understands beyond OpenAI's API, see models/endpoints.py
    health         answers 200 when it is ready
    """

    engine: str
    arguments: tuple[str, ...]
    key_variable: str
    kind: str = PLAIN
    health: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)


_LISTEN: Final = ("--host", "127.0.0.1", "--port", "{port}")
VLLM: Final = ServerCommand(
    "vllm",
    ("vllm", "serve", "{path}", *_LISTEN, "--max-model-len", "{context}", "--served-model-name", "{model}"),
    "VLLM_API_KEY",
    "vllm",
)
LLAMA_SERVER: Final = ServerCommand(
    "llama-server",
    ("llama-server", "-m", "{path}", *_LISTEN, "-c", "{context}", "-t", "{threads}", "--alias", "{model}", "--jinja"),
    "LLAMA_API_KEY",
    "localai",  # whose words for sampling are llama.cpp's
)


def load_vllm(files: ModelFiles, plan: Plan) -> SupervisedServer:
    """Start ``vllm serve``. Raises EngineError when it does not get ready."""
    return supervise(VLLM, files, plan)


def load_llama_server(files: ModelFiles, plan: Plan) -> SupervisedServer:
    """Start llama.cpp's own server, as it was installed here. Raises EngineError when it does not get ready."""
    return supervise(LLAMA_SERVER, files, plan)


def supervise(command: ServerCommand, files: ModelFiles, plan: Plan) -> SupervisedServer:
    """Start any server that speaks OpenAI's API."""
    return SupervisedServer(command, files, plan)


class SupervisedServer:
    """Any number of threads may use it; the server queues what is too much."""

    def __init__(self, command: ServerCommand, files: ModelFiles, plan: Plan) -> None:
        """Wait until it is ready. Raises EngineError with the last that it said."""
        started = time.perf_counter()
        self._command, self._files, self._plan = command, files, plan
        self._starting = threading.Lock()
        self._is_closed = self._is_lost = False
        self._child, self._remote = self._started()
        self.info = EngineInfo(
            engine=command.engine,
            model=files.name,
            context_tokens=plan.context_tokens.value,
            max_concurrency=self._remote.info.max_concurrency,
            load_s=time.perf_counter() - started,
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can answer. One that died is started again; False once that failed, or when closed."""
        return not (self._is_closed or self._is_lost)

    @property
    def process_id(self) -> int:
        """Of the process that watches the server."""
        return self._child.pid

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer. Raises what RemoteEngine raises, EngineError when the server cannot be started again."""
        with closing(self._living().generate(request)) as events:  # type: ignore[type-var]  # a generator
            yield from events

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of the texts, in order, where the model makes such."""
        return self._living().embed(texts)

    def close(self) -> None:
        """End the server; a second call does nothing."""
        with self._starting:
            self._is_closed = True
            self._remote.close()
            self._child.close()

    def _living(self) -> RemoteEngine:
        with self._starting:
            if self._is_closed:
                raise EngineError(f"{self._files.name} is closed.")
            if not self._child.is_alive:
                self._child.close()
                try:
                    self._child, self._remote = self._started()
                except EngineError:
                    self._is_lost = True
                    raise
            return self._remote

    def _started(self) -> tuple[ChildProcess, RemoteEngine]:
        port, key = _free_port(), secrets.token_urlsafe(32)
        child = ChildProcess(_WARDEN)
        weakref.finalize(self, child.close)
        values = {
            "path": self._files.path,
            "port": port,
            "context": self._plan.context_tokens.value,
            "threads": self._plan.threads.value,
            "model": MODEL,
        }
        try:
            told = child.tell(
                {
                    "command": [argument.format_map(values) for argument in self._command.arguments],
                    "environment": {**self._command.environment, self._command.key_variable: key},
                    "data_limit_bytes": None,  # cards map more than any model takes; the server has limits of its own
                }
            )
            if "error" in told:
                raise EngineError(f"{self._command.engine} could not be started: {told['error']}.")
            self._wait(child, port)
            endpoint = EndpointReference(self._command.kind, f"http://127.0.0.1:{port}/v1", MODEL)
            server = Server(endpoint.url, endpoint.model, key)
            return child, open_endpoint(endpoint, server, self._plan.context_tokens.value)
        except BaseException:
            child.close()
            raise

    def _wait(self, child: ChildProcess, port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not child.is_alive:
                problem = f"it ended with status {child.status()}"
                raise EngineError(f"{self._command.engine} did not get ready: {child.last_words(problem)}")
            if _is_healthy(port, self._command.health):
                return
            time.sleep(_POLL_S)
        raise EngineError(f"{self._command.engine} did not get ready in {START_TIMEOUT_S:g} s.")


def _is_healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
