"""The child process that holds the model, seen from its parent: started, asked over loopback HTTP, ended."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import IO, Any, Final

from madang.core.errors import EngineError, InvalidRequest

_END_S: Final = 5.0  # from being asked to end until being killed
_N_LOG_LINES: Final = 20
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
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._log: deque[str] = deque(maxlen=_N_LOG_LINES)
        threading.Thread(target=self._keep_log, args=(self._process.stderr,), daemon=True).start()
        try:
            self._port = self._started(options)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

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
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            with suppress(OSError):  # it has ended, with something unread
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _started(self, options: ServerOptions) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # both are pipes
        try:
            stdin.write(json.dumps({**asdict(options), "key": self._key}).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            raise self._failure(str(error)) from error
        line = stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in told:
            self._process.wait(_END_S)
            raise EngineError(f"llama.cpp could not load {options.model}: {self._last_words(told['error'])}")
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
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return EngineError(f"llama.cpp did not answer: {problem}")
        return ServerDied(f"The process of llama.cpp ended with status {status}: {self._last_words(problem)}")

    def _keep_log(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._log.append(line.decode("utf-8", "replace").strip())

    def _last_words(self, problem: str) -> str:
        return " | ".join([problem.rstrip("."), *list(self._log)[-2:]])


def _refusal(response: HTTPResponse) -> EngineError | InvalidRequest:
    """An error of the server as ours. Lengths and lists are checked before, so a 400 is about a schema."""
    try:
        message = json.loads(response.read())["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP status {response.status}"
    if response.status == 400:
        return InvalidRequest(f"llama.cpp refuses the request: {message}", param="constraint")
    return EngineError(f"llama.cpp failed: {message}")
