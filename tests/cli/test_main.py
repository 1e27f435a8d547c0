"""The command as a whole: help, exit statuses, and one sentence for every failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import madang as package
from tests.cli.conftest import Madang

VERBS = ["run", "pull", "list", "show", "rm", "bench", "doctor"]


def test_help_lists_every_verb_on_stdout(madang: Madang) -> None:
    for args in (["--help"], ["-h"], []):
        result = madang(*args)
        assert result.status == 0
        assert all(f"  {verb} " in result.out for verb in VERBS)
        assert result.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(madang: Madang, verb: str) -> None:
    result = madang(verb, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: madang {verb} ")


def test_version(madang: Madang) -> None:
    assert madang("--version").out == f"madang {package.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from madang.cli.main import main; main(['--help'], {});"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'huggingface_hub', 'rich', 'pydantic', 'psutil', 'torch',"
        " 'madang.models', 'madang.formats', 'madang.native', 'madang.hardware'};"
        "print('loaded:', *heavy & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    ("args", "sentence", "hint"),
    [
        (["rnu"], "There is no verb named 'rnu'.", "Did you mean run?"),
        (["run", "x", "y", "--temprature", "1"], "There is no option named '--temprature'.", "--temperature"),
        (["--verison"], "There is no option named '--verison'.", "Did you mean --version?"),
        (["run"], "Missing argument 'MODEL'.", "See 'madang run --help'."),
        (["run", "x", "hi", "--seed"], "'--seed' requires an argument", "--help'."),
        (["run", "x", "hi", "--seed", "soon"], "Invalid value for '--seed'", "See 'madang run --help'."),
        (["run", "x", "hi", "--engine", "ecko"], "There is no engine named 'ecko'.", "Did you mean echo?"),
        (["run", "x", "hi", "--threads", "0"], "--threads is '0', but must be a whole number from 1", ""),
        (["run", "x", "hi", "--temperature", "-1"], "temperature is -1.0, but must be a number between 0 and 100.", ""),
        (["run", "a b", "hi"], "'a b' is not a model reference.", "hf:org/repo"),
        (["bench", "x", "--repetitions", "0"], "Invalid value for '--repetitions'", ""),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    madang: Madang, args: list[str], sentence: str, hint: str
) -> None:
    result = madang(*args)
    assert result.status == 2
    assert result.out == ""
    assert sentence in result.err.splitlines()[0]
    assert hint in result.err
    assert "Traceback" not in result.err


def test_an_error_is_json_when_json_was_asked_for(madang: Madang) -> None:
    result = madang("run", "smolm2", "hi", "--json")
    assert result.status == 1
    assert result.json()["error"]["code"] == "model_not_found"
    assert result.json()["error"]["hint"] == "Did you mean smollm2?"
    assert madang("run", "--nope", "--json").json()["error"]["code"] == "unknown_option"


def test_a_bad_setting_is_a_sentence(madang: Madang) -> None:
    result = madang("list", MADANG_THREADS="many")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: MADANG_THREADS is 'many'")


def test_a_refusal_of_the_system_keeps_its_words(madang: Madang, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").write_text("a file where a folder belongs")
    result = madang("pull", "smollm2:135m")
    assert result.status == 1
    assert result.err.startswith("Error: ")
    assert "Traceback" not in result.err


BROKEN_ENGINE = """
def load(files, plan):
    raise RuntimeError("the wheels came off")
"""


def install_broken_engine(site: Path) -> None:
    """A plug-in package as pip would leave it: a module and an entry point."""
    (site / "broken_engine.py").write_text(BROKEN_ENGINE)
    metadata = site / "broken_engine-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-engine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[madang.engines]\nbroken = broken_engine:load\n")


@pytest.mark.parametrize(("debug", "traceback"), [("", False), ("0", False), ("1", True)])
def test_a_fault_is_one_sentence_and_the_traceback_on_request(
    starter_gguf: Path, tmp_path: Path, debug: str, traceback: bool
) -> None:
    install_broken_engine(tmp_path)
    environment = {**os.environ, "MADANG_HOME": str(tmp_path), "MADANG_DEBUG": debug}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "madang.cli", "run", f"file:{starter_gguf}", "hi", "--engine", "broken"]
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    assert told.returncode == 70
    assert "Error: RuntimeError: the wheels came off\nThis is a fault in madang" in told.stderr
    assert ("Traceback" in told.stderr) is traceback
