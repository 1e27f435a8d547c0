"""Runs command lines in this process, each with a home of its own."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from madang.cli.main import main


class Result(NamedTuple):
    """What a command line left behind."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """stdout, which has to be one JSON document."""
        return json.loads(self.out)


class Madang(Protocol):
    """``madang("run", "x", "hello")`` runs that command line; ``stdin`` is what is piped in, None is nothing at all."""

    def __call__(self, *args: str, stdin: bytes | None = b"", **environment: str) -> Result:
        """Run and collect."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def madang(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Madang:
    def run(*args: str, stdin: bytes | None = b"", **environment: str) -> Result:
        piped = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", piped)
        capsys.readouterr()
        status = main(args, {"MADANG_HOME": str(home), **environment})
        return Result(status, *capsys.readouterr())

    return run
