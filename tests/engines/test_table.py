"""Which engine runs a model, and what is said when none can."""

from __future__ import annotations

import subprocess
import sys

import pytest

from madang.core.errors import EngineUnavailable, InvalidRequest, UnknownOption, UnsupportedModel
from madang.engines import ENGINES, EngineEntry, choose_engine, engine_entries, find_engine

HERE = EngineEntry("here", "json:loads", formats=("gguf",))
ABSENT = EngineEntry(
    "absent",
    "absent_engine.adapter:load",
    formats=("gguf", "huggingface"),
    modules=("absent_engine.core", "json"),
    install="pip install 'madang[absent]'",
)
DOUBLE = EngineEntry("double", "json:loads", reads_files=False)
TABLE = (ABSENT, HERE, DOUBLE)


def test_the_first_installed_engine_that_reads_the_format_is_chosen_and_says_so() -> None:
    choice = choose_engine("gguf", entries=TABLE)
    assert choice.entry is HERE
    assert choice.reason == "first installed engine that reads gguf files"


def test_the_engine_asked_for_is_taken() -> None:
    assert choose_engine("gguf", "absent", TABLE).entry is ABSENT
    assert choose_engine("gguf", "double", TABLE).reason == "asked for by name"


def test_an_unknown_engine_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UnknownOption, match="'hear'") as caught:
        choose_engine("gguf", "hear", TABLE)
    assert caught.value.hint == "Did you mean here?"


def test_an_engine_that_does_not_read_the_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="The here engine reads gguf files, but this model is huggingface"):
        choose_engine("huggingface", "here", TABLE)


def test_a_missing_package_is_a_sentence_with_the_command() -> None:
    for attempt in (lambda: ABSENT.loader(), lambda: choose_engine("huggingface", entries=TABLE)):
        with pytest.raises(EngineUnavailable, match=r"needs absent_engine\.core,") as caught:
            attempt()
        assert caught.value.hint == "Install it with: pip install 'madang[absent]'"


def test_a_format_that_no_engine_reads() -> None:
    with pytest.raises(UnsupportedModel, match="onnx"):
        choose_engine("onnx", entries=TABLE)


def test_the_table_finds_its_own() -> None:
    assert find_engine("echo").standalone()("twin", 12).info.context_tokens == 12
    assert engine_entries()[: len(ENGINES)] == ENGINES


def test_looking_at_the_table_imports_no_engine() -> None:
    code = (
        "import sys, madang.engines as e; [entry.is_installed() for entry in e.engine_entries()];"
        "print([m for m in sys.modules if m.startswith(('madang.native', 'madang._core', 'madang.engines.echo'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
