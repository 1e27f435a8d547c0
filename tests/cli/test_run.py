"""``madang run`` with a prompt: where it comes from, what is printed, what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from madang.core import Message
from madang.models import Preset, Store, StoredReference, parse_reference
from madang.models.manifest import Manifest, ManifestFile
from tests.cli.conftest import Madang, Result


@pytest.fixture
def echo(madang: Madang) -> Madang:
    """``madang run`` on the echo engine; its model is called twin."""

    def run(*args: str, stdin: bytes | None = b"", **environment: str) -> Result:
        return madang("run", "--engine", "echo", "twin", *args, stdin=stdin, **environment)

    return run


def test_the_answer_is_all_there_is_on_stdout(echo: Madang) -> None:
    assert echo("안녕 🙂") == Result(0, "안녕 🙂\n", "")


@pytest.mark.parametrize(
    ("args", "stdin", "prompt"),
    [
        (["hello"], b"", "hello"),
        (["hello"], None, "hello"),
        ([], "마당\n".encode(), "마당\n"),
        ([], b"\xef\xbb\xbfwith a mark", "with a mark"),
        (["Summarize:"], b"a long text", "Summarize:\n\na long text"),
        (["--", "--dashes"], b"", "--dashes"),
    ],
)
def test_the_prompt_comes_from_the_argument_and_from_stdin(
    echo: Madang, args: list[str], stdin: bytes | None, prompt: str
) -> None:
    assert echo("--json", *args, stdin=stdin).json()["text"] == prompt


@pytest.mark.parametrize(("args", "stdin"), [([], b""), ([], None), ([""], b""), (["  "], b" \n")])
def test_an_empty_prompt_is_refused(echo: Madang, args: list[str], stdin: bytes | None) -> None:
    result = echo(*args, stdin=stdin)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: The prompt is empty.\n")


def test_input_in_another_encoding_is_refused_with_the_place(echo: Madang) -> None:
    result = echo("Translate:", stdin=b"ok " + "마당".encode("cp949"))
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: Standard input is not UTF-8 text: byte 0xb8 at position 3.\n")
    assert "iconv -f cp949" in result.err


def test_an_argument_in_another_encoding_is_refused(echo: Madang) -> None:
    argument = b"ok \xb8".decode("utf-8", "surrogateescape")
    for args in ([argument], ["hi", "--system", argument]):
        result = echo(*args)
        assert result.status == 2
        assert "is not UTF-8 text: byte 0xb8 at position 3." in result.err


def test_json_has_the_keys_that_programs_rely_on(echo: Madang) -> None:
    document = echo("hello", "--json").json()
    assert list(document) == [
        "model",
        "engine",
        "text",
        "reasoning",
        "tool_calls",
        "finish_reason",
        "usage",
        "timings",
        "ledger",
    ]
    assert (document["model"], document["engine"], document["text"]) == ("twin", "echo", "hello")
    assert document["finish_reason"] == "stop"
    assert document["usage"] == {"prompt_tokens": 6, "cached_tokens": 0, "completion_tokens": 3, "reasoning_tokens": 0}
    assert list(document["timings"]) == [
        "load_s",
        "time_to_first_token_s",
        "prompt_tokens_per_s",
        "decode_tokens_per_s",
        "drafted_tokens",
        "accepted_tokens",
    ]
    ledger = document["ledger"]
    assert ledger["kept_tokens"] == ledger["received_tokens"] - ledger["dropped_tokens"] == 6
    assert ledger["n_ctx"] == ledger["free_tokens"] + 9


def test_a_rate_that_was_not_measured_is_null(echo: Madang) -> None:
    assert echo("hello", "--json", "--max-tokens", "1").json()["timings"]["decode_tokens_per_s"] is None


def test_options_reach_the_engine(echo: Madang) -> None:
    assert echo("one two three", "--json", "--stop", "three", "--stop", "two").json()["text"] == "one "
    assert echo("hello", "--json", "--max-tokens", "0").json()["usage"]["completion_tokens"] == 0
    assert echo("hello", "--json", "--context", "99").json()["ledger"]["n_ctx"] == 99
    assert (
        echo("hello", "--json").json()["usage"]["prompt_tokens"]
        < (echo("hello", "--json", "--system", "Be brief.").json()["usage"]["prompt_tokens"])
    )
    assert echo("hello", "--json", "--raw").json()["usage"]["prompt_tokens"] == 3
    hot = ("a sentence to garble", "--temperature", "20", "--top-k", "0", "--top-p", "1")
    seeded = [echo(*hot, "--seed", seed).out for seed in ("0", "0", "1")]
    assert seeded[0] == seeded[1] != seeded[2]
    narrow = [("--top-k", "1"), ("--top-p", "0"), ("--min-p", "1")]
    assert {echo(*hot, *option).out for option in narrow} == {"a sentence to garble\n"}


def test_log_probabilities_are_in_the_json_when_asked_for(echo: Madang) -> None:
    document = echo("hello", "--json", "--logprobs", "2").json()
    assert [token["text"] for token in document["logprobs"]] == ["h", "ell", "o"]
    assert len(document["logprobs"][0]["top"]) == 2
    assert echo("hello", "--json", "--logprobs", "0", "--max-tokens", "0").json()["logprobs"] == []


@pytest.mark.parametrize(
    "args", [["hi", "--raw", "--system", "x"], ["hi", "--logprobs", "1"], ["hi", "--stop", ""], ["hi", "--seed", "-1"]]
)
def test_options_that_make_no_sense_are_refused(echo: Madang, args: list[str]) -> None:
    result = echo(*args)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: ")


def test_an_answer_that_was_cut_off_says_so(echo: Madang) -> None:
    result = echo("a long sentence", "--max-tokens", "3")
    assert result.out == "a long\n"
    assert result.err == "The answer was cut off after 3 tokens (--max-tokens sets the limit).\n"
    full = echo("a long sentence", "--context", "12")
    assert full.err == "The answer was cut off: the context of 12 tokens is full (--context sets it).\n"
    assert echo("a long sentence", "--max-tokens", "0").err == ""


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(echo: Madang) -> None:
    result = echo("a long sentence", "--context", "8")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: The prompt has 11 tokens, but the context holds 8.\n")
    assert echo("a long sentence", "--context", "8", "--json").json()["error"]["n_prompt_tokens"] == 11


def test_stats_are_a_note(echo: Madang) -> None:
    result = echo("hello", "--stats", "--seed", "7")
    assert result.out == "hello\n"
    for fact in ("prompt 6 tokens, 0 cached", "answer 3 tokens", "first token", "context 9 of 4096", "seed 7"):
        assert fact in result.err


def test_a_pipe_gets_the_bytes_and_a_terminal_no_control_characters(
    echo: Madang, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert echo("red \x1b[31m").out == "red \x1b[31m\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    echo("red \x1b[31m\x9b")
    assert terminal.getvalue() == "red \ufffd[31m\ufffd\n"


def test_the_engine_can_come_from_the_environment(madang: Madang) -> None:
    assert madang("run", "twin", "hello", MADANG_ENGINE="echo").out == "hello\n"


def test_someone_who_stops_reading_ends_it_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "madang.cli", "run", "twin", "word " * 1000, "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"w"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_an_argument_survives_a_system_that_assumes_ascii(echo: Madang) -> None:
    assert echo("안녕".encode().decode("ascii", "surrogateescape")).out == "안녕\n"


def test_half_a_character_is_refused(echo: Madang) -> None:
    assert "is not UTF-8 text: byte 0xed at position 1." in echo("a\ud800").err


def test_a_derived_model_brings_its_own_beginning_and_limits(madang: Madang, home: Path) -> None:
    own = Preset(system="You answer in one word.", messages=(Message("user", "hi"), Message("assistant", "yes")))
    store = Store(home)
    home.mkdir()
    path = home / "w.gguf"
    path.write_bytes(b"GGUF")
    weights = ManifestFile("w.gguf", 4, path=str(path), modified_ns=path.stat().st_mtime_ns)
    for name, preset in {"plain:1": None, "made:1": own, "short:1": Preset(stop=("three",), max_tokens=3)}.items():
        reference = parse_reference(name)
        assert isinstance(reference, StoredReference)
        store.commit(Manifest(reference, "gguf", "made here", (weights,), datetime.now(UTC), preset=preset))

    def asked(model: str, *more: str) -> Any:
        return madang("run", "--engine", "echo", model, "one two three", "--json", *more).json()

    plain, made = asked("plain:1"), asked("made:1")
    assert made["text"] == plain["text"] == "one two three"
    assert made["usage"]["prompt_tokens"] > asked("plain:1", "--system", own.system or "")["usage"]["prompt_tokens"]
    assert asked("made:1", "--system", "x")["usage"]["prompt_tokens"] < made["usage"]["prompt_tokens"]
    assert asked("short:1", "--max-tokens", "100")["text"] == "one two "
    assert asked("short:1", "--stop", "nothing")["usage"]["completion_tokens"] == 3
