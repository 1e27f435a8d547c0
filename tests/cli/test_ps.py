"""``madang ps`` and ``madang top`` against a server on a socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from madang.cli.ps import view
from madang.server.keys import KeyFile
from tests.cli.conftest import Madang
from tests.server.serving import Running, post, read_answer, served, tiny_app


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with served(tiny_app(tmp_path / "server")) as server:
        yield server


def url(server: Running) -> str:
    return f"http://127.0.0.1:{server.port}/"


def say(server: Running, text: str) -> None:
    with server.connect() as connection:
        connection.sendall(post("/say", json.dumps({"model": "echo", "text": text}).encode(), "Connection: close"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_ps_tells_what_is_loaded_and_why(madang: Madang, running: Running) -> None:
    shown = madang("ps", "--server", url(running))
    assert re.search(r"^echo +echo +.* stays +It was asked for\.$", shown.out, re.MULTILINE)
    models = madang("ps", "--server", url(running), "--json").json()["models"]
    assert {model["model"] for model in models} == {"echo", "endless"}


def test_top_looks_once(madang: Madang, running: Running) -> None:
    say(running, "hello there")
    shown = madang("top", "--server", url(running), "--once", COLUMNS="200")
    assert shown.status == 0
    assert "running 0" in shown.out and "echo" in shown.out


def test_rates_are_between_two_looks() -> None:
    def look(uptime_s: float, n_tokens: int) -> dict[str, object]:
        model = {"requests": 1, "generation_tokens": n_tokens, "prompt_tokens": 40, "cached_tokens": 10}
        return {"uptime_s": uptime_s, "running": 1, "waiting": 0, "models": {"m:1": model}, "resident": []}

    console = Console(width=200, record=True)
    console.print(view(look(10, 100), look(12, 150)))
    row = next(line for line in console.export_text().splitlines() if "m:1" in line)
    assert row.split() == ["m:1", "-", "1", "0", "0.0", "25.0", "25%", "-", "-", "-"]


def test_a_server_with_keys_wants_one(madang: Madang, running: Running, tmp_path: Path) -> None:
    secret = KeyFile(tmp_path / "server").add("one")
    without = madang("ps", "--server", url(running))
    assert without.status == 1 and "MADANG_API_KEY" in without.err
    assert madang("ps", "--server", url(running), MADANG_API_KEY=secret).status == 0


def test_no_server_is_one_sentence(madang: Madang) -> None:
    nobody = madang("ps", "--server", "http://someone:secret@127.0.0.1:9")
    assert nobody.status == 1 and "madang serve" in nobody.err and "secret" not in nobody.err
    assert madang("top", "--server", "ftp://x").status == 2
