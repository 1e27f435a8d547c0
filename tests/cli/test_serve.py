"""``madang serve``: listens, answers, stops; says in one sentence why it cannot."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from madang.cli.serve import exposure
from madang.server.keys import KeyFile
from madang.server.security import SecurityConfig
from tests.cli.conftest import Madang


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_it_prints_its_address_answers_and_stops(home: Path) -> None:
    command = [sys.executable, "-m", "madang.cli", "serve", "--port", "0", "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().decode().strip())
        assert (address.scheme, address.hostname) == ("http", "127.0.0.1")
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
        body = '{"model": "x", "messages": [{"role": "user", "content": "hello"}]}'
        connection.request("POST", "/v1/chat/completions", body)
        answer = connection.getresponse().read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert b'"content":"hello"' in answer, errors
    assert process.returncode == 0


def test_an_open_server_says_who_can_reach_it(home: Path) -> None:
    keys = KeyFile(home)
    keys.add("one")
    keys.add("owner", may_manage=True)
    plain = exposure(SecurityConfig(keys, "0.0.0.0"), has_tls=False)
    assert "(0.0.0.0)" in plain and "2 keys, of which 1 may change models" in plain and "No TLS" in plain
    keys.remove("owner")
    assert "1 key, of which 0" in exposure(SecurityConfig(keys, "192.168.1.5"), has_tls=True)
    assert "No TLS" not in exposure(SecurityConfig(keys, "192.168.1.5"), has_tls=True)


def test_a_port_that_is_taken(madang: Madang, taken: int) -> None:
    result = madang("serve", "--port", str(taken))
    assert result.status == 2
    assert f"Port {taken} of 127.0.0.1 is taken" in result.err
    assert "madang serve --port" in result.err


def test_an_open_address_wants_a_key(madang: Madang) -> None:
    result = madang("serve", "--host", "0.0.0.0", "--port", "0")
    assert result.status != 0
    assert "madang keys add" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "192.0.2.7"], "key"),
        (["--host", "no such host"], "key"),
        (["--certificate", "chain.pem"], "--key"),
        (["--certificate", "chain.pem", "--key", "key.pem"], "chain.pem"),
        (["--memory", "much"], "--memory"),
        (["--origins", "example.org"], "example.org"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(madang: Madang, options: list[str], said: str) -> None:
    result = madang("serve", *options)
    assert result.status != 0
    assert said in result.err
    assert "Traceback" not in result.err


def test_options_of_one_engine_do_not_keep_the_models_of_others_from_running(home: Path) -> None:
    options = ["--device", "cpu", "--precision", "fast", "--context", "64"]
    command = [sys.executable, "-m", "madang.cli", "serve", "--port", "0", "--engine", "echo", *options]
    environment = {**os.environ, "MADANG_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().decode().strip())
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
        connection.request("POST", "/api/generate", '{"model": "x", "prompt": "hello", "stream": false}')
        answer = connection.getresponse().read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert b'"response":"hello"' in answer, errors
