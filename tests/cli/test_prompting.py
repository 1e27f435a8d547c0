"""Reading standard input: at a terminal, from nowhere, and when nothing comes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

from madang.cli.prompting import PATIENCE_S, read_prompt


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_no_prompt_means_a_chat() -> None:
    assert read_prompt(None, Terminal("not read")) is None
    assert read_prompt("hello", Terminal("not read")) == "hello"


def test_waiting_for_input_that_does_not_come_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "madang.cli", "run", "twin", "hello", "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        assert "Waiting for standard input" in process.stderr.readline()
        out, _ = process.communicate("world", timeout=60)
    assert out == "hello\n\nworld\n"
    assert PATIENCE_S > 0


def test_a_request_to_end_is_heard(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "madang.cli", "run", "twin", "hello", "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        assert b"Waiting for standard input" in process.stderr.readline()
        process.terminate()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGTERM
