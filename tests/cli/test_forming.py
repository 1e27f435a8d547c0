"""``madang run`` with a form for the answer, a LoRA adapter, or reasoning, and what of it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Madang
from tests.formats.adapters.files import random_adapter, write_gguf, write_peft
from tests.native.tiny import MODEL
from tests.parity.checkpoints import Checkpoint, write_checkpoint

SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("model") / "tiny.gguf")


def test_json_by_a_schema(madang: Madang, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA), encoding="utf-8")
    for schema in (str(path), json.dumps(SCHEMA)):
        answer = madang("run", f"file:{checkpoint.path}", "A color:", "--raw", "--schema", schema, "--temperature", "0")
        assert answer.status == 0, answer.err
        assert json.loads(answer.out)["color"] in ("red", "blue")


def test_a_regular_expression_and_a_grammar(madang: Madang, checkpoint: Checkpoint, tmp_path: Path) -> None:
    grammar = tmp_path / "form.lark"
    grammar.write_text('start: "yes" | "no"\n', encoding="utf-8")
    for option in (("--regex", "yes|no"), ("--grammar", str(grammar))):
        assert madang("run", f"file:{checkpoint.path}", "Well?", "--raw", *option).out in ("yes\n", "no\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--schema", '{"a"'), "The schema is not JSON: "),
        (("--schema", "list.json"), "The schema in list.json is not a JSON object."),
        (("--schema", "nowhere.json"), "The schema nowhere.json cannot be read: No such file or directory."),
        (("--schema", "latin.json"), "The schema latin.json is not UTF-8 text."),
        (("--grammar", "nowhere.lark"), "The grammar nowhere.lark cannot be read: No such file or directory."),
        (("--regex", "a", "--grammar", "b"), "An answer has one form; --regex and --grammar were given."),
        (("--adapter", "nowhere:0.5"), "There is no adapter at nowhere."),
        (("--adapter", "nowhere:x"), "There is no adapter at nowhere:x."),
    ],
)
def test_what_is_refused_before_a_model_is_loaded(
    madang: Madang, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1]", encoding="utf-8")
    Path("latin.json").write_bytes(b"\xe9")
    result = madang("run", "file:there-is-no-model.gguf", "hi", *options)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"Error: {sentence}")


def test_a_broken_pattern_is_a_sentence(madang: Madang, checkpoint: Checkpoint) -> None:
    result = madang("run", f"file:{checkpoint.path}", "hi", "--raw", "--regex", "(")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: The regular expression cannot hold an answer to its form: ")


@pytest.mark.parametrize("kind", ["peft", "gguf"])
def test_an_adapter(madang: Madang, checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    adapter = random_adapter(checkpoint.weights, 1)
    is_peft = kind == "peft"
    path = write_peft(adapter, tmp_path / "a") if is_peft else write_gguf(adapter, tmp_path / "a.gguf", MODEL)

    def answer(*options: str) -> str:
        common = ("--raw", "--temperature", "0", "--max-tokens", "16", "--json")
        return str(madang("run", f"file:{checkpoint.path}", "once upon", *common, *options).json()["text"])

    plain = answer()
    assert answer("--adapter", f"{path}:0") == plain
    assert answer("--adapter", str(path)) == answer("--adapter", f"{path}:1.0") != plain


def test_an_adapter_that_is_none(madang: Madang, checkpoint: Checkpoint, tmp_path: Path) -> None:
    result = madang("run", f"file:{checkpoint.path}", "hi", "--raw", "--adapter", str(tmp_path))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"Error: {tmp_path} is not a valid model file: ")
    echo = madang("run", "--engine", "echo", "twin", "hi", "--adapter", str(tmp_path))
    assert (echo.status, echo.err) == (2, "Error: The echo engine has no adapters.\n")


def test_a_model_that_cannot_think(madang: Madang, checkpoint: Checkpoint) -> None:
    result = madang("run", f"file:{checkpoint.path}", "hi", "--raw", "--think")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: This model has no reasoning")
