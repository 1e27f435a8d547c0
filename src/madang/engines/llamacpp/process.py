"""The child process that holds the model, seen from its parent: started, asked over loopback HTTP, ended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final

from madang.core.errors import EngineError, InvalidRequest
from madang.engines.child_process import ChildProcess

_MODULE: Final = "madang.engines.llamacpp.child"


class ServerDied(EngineError):
    """The process ended while it was needed."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the child loads.

    context_tokens     of each of ``n_slots`` requests that are computed side by side
    data_limit_bytes   memory of its own that the system gives it, the model's file not counted
    """

    model: str
    context_tokens: int
    n_slots: int
    threads: int
    kv_type: str
    data_limit_bytes: int


class ServerProcess:
    """One child. Any number of threads may ask it."""

    def __init__(self, options: ServerOptions) -> None:
        """Start it and wait until the model is loaded. Raises EngineError with the last that it said."""
        self._key = secrets.token_urlsafe(32)
        self._child = ChildProcess(_MODULE)
        try:
            self._port = self._started(options)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._child.is_alive

    def complete(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Ask for a completion; yields the server's chunks, of which the last has ``stop`` set.

        Closing the iterator ends the request. Raises InvalidRequest for what the server refuses, ServerDied and
        EngineError.
        """
        connection = HTTPConnection("127.0.0.1", self._port)
        try:
            yield from self._chunks(connection, body)
        except (OSError, HTTPException) as error:
            raise self._failure(str(error)) from error
        finally:
            connection.close()

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._child.close()

    def _started(self, options: ServerOptions) -> int:
        try:
            told = self._child.tell({**asdict(options), "key": self._key})
        except OSError as error:
            raise self._failure(str(error)) from error
        if "error" in told:
            self._child.status()
            raise EngineError(f"llama.cpp could not load {options.model}: {self._child.last_words(told['error'])}")
        port: int = told["port"]
        return port

    def _chunks(self, connection: HTTPConnection, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request("POST", "/completion", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response)
        for line in response:
            if not line.startswith(b"data: "):
                continue
            chunk: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                raise EngineError(f"llama.cpp failed: {chunk['error'].get('message', 'no reason given')}")
            yield chunk
            if chunk.get("stop"):
                return
        raise self._failure("the stream ended early")

    def _failure(self, problem: str) -> EngineError:
        """What a broken connection means: it takes a moment until a killed process counts as ended."""
        status = self._child.status()
        if status is None:
            return EngineError(f"llama.cpp did not answer: {problem}")
        return ServerDied(f"The process of llama.cpp ended with status {status}: {self._child.last_words(problem)}")


def _refusal(response: HTTPResponse) -> EngineError | InvalidRequest:
    """An error of the server as ours. Lengths and lists are checked before, so a 400 is about a schema."""
    try:
        message = json.loads(response.read())["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP status {response.status}"
    if response.status == 400:
        return InvalidRequest(f"llama.cpp refuses the request: {message}", param="constraint")
    return EngineError(f"llama.cpp failed: {message}")
