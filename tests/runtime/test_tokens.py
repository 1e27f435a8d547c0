"""Texts in the tokens of models whose weights are never read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from madang.core.errors import ModelNotFound, NetworkUnavailable
from madang.core.settings import load_settings
from madang.runtime.tokens import OpenedTokenizer, Tokenizers, cut, open_tokenizer, script_of
from tests.formats.vocabularies import tokenizer
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint, write_folder

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokens in a file and in a folder."""
    folder = tmp_path_factory.mktemp("files")
    checkpoint = write_checkpoint(MODEL, folder / "tiny.gguf")
    write_folder(checkpoint, folder / "tiny")
    return folder


def opened(context_tokens: int | None = 100) -> OpenedTokenizer:
    return OpenedTokenizer("small", tokenizer("gpt2"), context_tokens)


def test_figures_of_a_text() -> None:
    found = cut(opened(), "hell 가")
    assert [(token.text, token.start, token.end) for token in found.tokens] == [
        ("hell", 0, 4),
        (" ", 4, 5),
        ("<0xEA>", 5, 6),
        ("<0xB0>", 5, 6),
        ("<0x80>", 5, 6),
    ]
    assert found.tokens_per_character == 5 / 6
    assert found.context_share == 0.05
    assert found.by_script == {"korean": 3.0, "english": 0.25}


def test_what_is_not_known_or_not_there_is_none() -> None:
    empty = cut(opened(None), "")
    assert (empty.tokens, empty.tokens_per_character, empty.context_share, empty.by_script) == ((), None, None, {})


def test_control_tokens_count_only_when_asked_for() -> None:
    text = "he<|im_end|>"
    assert not any(token.is_control for token in cut(opened(), text).tokens)
    special = cut(opened(), text, special=True).tokens
    assert [(token.text, token.is_control) for token in special] == [("he", False), ("<|im_end|>", True)]


def test_tokens_around_a_text_have_no_place_in_it() -> None:
    bert = OpenedTokenizer("bert", tokenizer("bert"), None)
    tokens = cut(bert, "play", special=True).tokens
    assert [(token.text.strip(), token.start, token.end) for token in tokens] == [
        ("[CLS]", 0, 0),
        ("play", 0, 4),
        ("[SEP]", 4, 4),
    ]


@pytest.mark.parametrize(("character", "script"), [("가", "korean"), ("ㅋ", "korean"), ("a", "english"), ("é", None)])
def test_scripts(character: str, script: str | None) -> None:
    assert script_of(character) == script


def test_a_file_and_a_folder_have_the_same_tokens(files: Path, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path}, {})
    found = [cut(open_tokenizer(f"file:{files / name}", settings), "안녕hello") for name in ("tiny.gguf", "tiny")]
    assert found[0].tokens == found[1].tokens
    assert {one.model.context_tokens for one in found} == {MODEL.context_tokens}


def test_what_cannot_be_had_alone_says_so(tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path, "offline": "1"}, {})
    with pytest.raises(NetworkUnavailable, match="offline"):
        open_tokenizer("qwen3:0.6b", settings)
    with pytest.raises(ModelNotFound) as told:
        open_tokenizer("smollm2:135m", settings)
    assert told.value.hint is not None and "madang pull smollm2:135m" in told.value.hint
    with pytest.raises(ModelNotFound):
        open_tokenizer("nothing:1b", settings)


def test_a_tokenizer_is_kept_until_its_file_changes(files: Path, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path}, {})
    path = tmp_path / "own.gguf"
    path.write_bytes((files / "tiny.gguf").read_bytes())
    kept = Tokenizers(settings, most=1)
    first = kept.get(f"file:{path}")
    assert kept.get(f"file:{path}") is first
    path.write_bytes(path.read_bytes() + bytes(32))
    assert kept.get(f"file:{path}") is not first
    with pytest.raises(ModelNotFound):
        kept.get("file:/nowhere.gguf")
    with pytest.raises(ModelNotFound):
        kept.get("file:/nowhere.gguf")


def test_models_compare_by_their_own_tokenizers() -> None:
    llama = replace(opened(), tokenizer=tokenizer("llama"))
    assert len(cut(llama, "가").tokens) == 2 and len(cut(opened(), "가").tokens) == 3
