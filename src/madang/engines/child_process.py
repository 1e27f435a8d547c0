"""A program of ours in a process of its own, from both sides: told by a line of JSON, ended with its parent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final

_END_S: Final = 5.0  # from being asked to end until being killed
_N_LOG_LINES: Final = 20


class ChildProcess:
    """Runs a module, which reads a line of JSON from stdin, answers with one on stdout, and ends when stdin does."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._log: deque[str] = deque(maxlen=_N_LOG_LINES)
        threading.Thread(target=self._keep_log, args=(self._process.stderr,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def tell(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What it answers; ``{"error": text}`` also when it ends before. Raises OSError when it does not listen."""
        self.send(options)
        return self.receive()

    def send(self, options: Mapping[str, Any]) -> None:
        """Only tell it, for what it answers in several lines. Raises OSError when it does not listen."""
        stdin = self._process.stdin
        assert stdin is not None  # a pipe
        stdin.write(json.dumps(options).encode() + b"\n")
        stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Its next line; ``{"error": text}`` when it ends before."""
        stdout = self._process.stdout
        assert stdout is not None  # a pipe
        line = stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        return told

    def status(self) -> int | None:
        """Its exit status, given a moment: a killed process takes one to count as ended. None while it runs."""
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self, problem: str) -> str:
        """The problem, and the last that it wrote to stderr."""
        return " | ".join([problem.rstrip("."), *list(self._log)[-2:]])

    def close(self) -> None:
        """End it; a second call does nothing."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            with suppress(OSError):  # it has ended, with something unread
                process.stdin.close()
        if self.status() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _keep_log(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._log.append(line.decode("utf-8", "replace").strip())


def limit_resources(data_bytes: int | None, *, file_bytes: int | None = None) -> None:
    """Of this process and its children: no core dumps with people's prompts; None is no limit. Windows has none."""
    try:
        import resource
    except ImportError:
        return
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_DATA, data_bytes),
    ):
        _, hard = resource.getrlimit(limit)
        if value is not None and (hard == resource.RLIM_INFINITY or value < hard):
            resource.setrlimit(limit, (value, value))
