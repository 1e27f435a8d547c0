"""A server of others, started, watched and ended: ``madang serve`` with the echo engine stands in for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from madang.core import Request, collect
from madang.core.errors import EngineError
from madang.engines.supervised.engine import ServerCommand, SupervisedServer, supervise
from madang.hardware import outline_plan, probe_machine
from madang.models import ModelFiles

ECHO = ("-m", "madang.cli", "serve", "--engine", "echo", "--port", "{port}", "--context", "{context}")
WAIT_S = 20.0


@pytest.fixture
def command(tmp_path: Path) -> ServerCommand:
    return ServerCommand("stand-in", (sys.executable, *ECHO), "NO_KEY", environment={"MADANG_HOME": str(tmp_path)})


def started(command: ServerCommand, path: Path) -> SupervisedServer:
    files = ModelFiles("it", "huggingface", path, 1, "", datetime(2026, 1, 1, tzinfo=UTC))
    return supervise(command, files, outline_plan("it", probe_machine(gpus=False)))


@pytest.fixture
def engine(command: ServerCommand, tmp_path: Path) -> Iterator[SupervisedServer]:
    with closing(started(command, tmp_path)) as loaded:
        yield loaded


def family(engine: SupervisedServer) -> list[psutil.Process]:
    warden = psutil.Process(engine.process_id)
    return [warden, *warden.children(recursive=True)]


def test_it_answers_and_ends_with_its_engine(engine: SupervisedServer) -> None:
    assert collect(engine.generate(Request(prompt="hello there"))).text == "hello there"
    assert (engine.info.engine, engine.info.model, engine.is_alive) == ("stand-in", "it", True)
    processes = family(engine)
    assert len(processes) >= 2
    engine.close()
    engine.close()
    assert psutil.wait_procs(processes, WAIT_S)[1] == []
    assert not engine.is_alive
    with pytest.raises(EngineError, match="closed"):
        next(iter(engine.generate(Request(prompt="hello"))))


@pytest.mark.parametrize("victim", [0, 1], ids=["warden", "server"])
def test_one_that_was_killed_is_started_again_by_the_next_request(engine: SupervisedServer, victim: int) -> None:
    processes = family(engine)
    os.kill(processes[victim].pid, signal.SIGKILL)
    psutil.wait_procs(processes[:1], WAIT_S)
    assert engine.is_alive
    if victim == 0:  # nobody is left to end the server
        processes[1].kill()
    assert collect(engine.generate(Request(prompt="hello"))).text == "hello"
    assert engine.process_id != processes[0].pid


def test_one_that_cannot_be_started_says_why(command: ServerCommand, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"stand-in could not be started: no-such-program"):
        started(replace(command, arguments=("no-such-program",)), tmp_path)
    program = "import sys; sys.exit('the model is too large')"
    with pytest.raises(EngineError, match=r"status 1.*the model is too large"):
        started(replace(command, arguments=(sys.executable, "-c", program)), tmp_path)


def test_several_at_once(engine: SupervisedServer) -> None:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(collect(engine.generate(Request(prompt=f"word {n}"))).text))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(answers) == [f"word {n}" for n in range(4)]
