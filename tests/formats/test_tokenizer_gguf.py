"""Tokenizer metadata that contradicts itself is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.tokenizers.tokenizer import tokenizer_from_gguf
from tests.formats.vocabularies import CONTROL, NORMAL, byte_pairs, metadata, sentencepiece, tokenizer, word_pieces


@pytest.mark.parametrize(
    ("kind", "keys", "problem"),
    [
        ("gpt2", {"tokens": None}, "'tokenizer.ggml.tokens' is missing"),
        ("gpt2", {"tokens": []}, "is empty"),
        ("gpt2", {"tokens": np.arange(3)}, "expected a list of texts"),
        ("gpt2", {"token_type": np.ones(3, np.int32)}, "3 entries for 263 tokens"),
        ("gpt2", {"token_type": np.full(263, 9, np.int32)}, "expected 0 to 6"),
        ("gpt2", {"token_type": np.ones(263, np.float32)}, "expected a list of whole numbers"),
        ("gpt2", {"merges": None}, "'tokenizer.ggml.merges' is missing"),
        ("gpt2", {"merges": ["he"]}, "the merge 'he' is not two tokens"),
        ("gpt2", {"merges": ["h e l"]}, "the merge 'h e l' is not two tokens"),
        ("gpt2", {"merges": ["h zz"]}, "the merge 'h zz' speaks of a token that does not exist"),
        ("gpt2", {"merges": ["e l"]}, "the merge 'e l' speaks of a token that does not exist"),
        ("gpt2", {"merges": [" h"]}, "the merge ' h' is not two tokens"),
        ("gpt2", {"bos_token_id": 263}, "expected 0 to 262"),
        ("gpt2", {"eos_token_id": -1}, "expected 0 to 262"),
        ("gpt2", {"eot_token_id": "1"}, "expected a whole number"),
        ("gpt2", {"add_bos_token": 1}, "expected true or false"),
        ("gpt2", {"add_eos_token": True, "eos_token_id": None}, "has none"),
        ("gpt2", {"pre": 3}, "expected a text"),
        ("llama", {"scores": None}, "'tokenizer.ggml.scores' is missing"),
        ("llama", {"scores": np.zeros(3, np.float32)}, "3 entries for 268 tokens"),
        ("llama", {"scores": np.full(268, np.nan, np.float32)}, "NaN"),
        ("llama", {"scores": np.full(268, -np.inf, np.float32)}, "beyond"),
        ("t5", {"precompiled_charsmap": np.zeros(2, np.uint8)}, "cut off"),
        ("t5", {"precompiled_charsmap": np.full(9, 255, np.uint8)}, "more than it holds"),
        ("t5", {"precompiled_charsmap": np.full(9, 256, np.int32)}, "expected -128 to 255"),
        ("bert", {"unknown_token_id": 99}, "expected 0 to 9"),
    ],
)
def test_contradictions_are_named(kind: str, keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(MalformedFile, match=problem) as caught:
        tokenizer(kind, **keys)
    assert caught.value.path == "model.gguf"


def test_two_tokens_with_one_text() -> None:
    tokens = [("a", NORMAL), ("", NORMAL), ("b", NORMAL), ("", NORMAL), ("a", NORMAL)]
    with pytest.raises(MalformedFile, match="tokens 0 and 4 have the same text 'a'"):
        tokenizer_from_gguf(metadata("gpt2", tokens, merges=[]))


def test_word_pieces_without_an_unknown_token() -> None:
    with pytest.raises(MalformedFile, match="no unknown token"):
        tokenizer_from_gguf(metadata("bert", [("▁a", NORMAL), ("[CLS]", CONTROL)]))


@pytest.mark.parametrize("name", ["rwkv", "plamo2", "gemma4", ""])
def test_an_unknown_kind_is_named(name: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"kind '{name}'"):
        tokenizer_from_gguf(byte_pairs(model=name))


def test_an_unknown_word_rule_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="'kimi-k2'"):
        tokenizer(pre="kimi-k2")


def test_types_may_be_missing() -> None:
    made = tokenizer(token_type=None, bos_token_id=None, eos_token_id=None)
    assert made.encode("hell") == tokenizer().encode("hell")
    assert not made.is_control(2)
    assert made.end_ids == {1}


def test_default_ids_apply_where_they_exist() -> None:
    made = tokenizer_from_gguf(sentencepiece(bos_token_id=None, eos_token_id=None, unknown_token_id=None))
    assert (made.bos_id, made.eos_id, made.vocabulary.unknown_id) == (1, 2, 0)
    tiny = tokenizer_from_gguf(metadata("llama", [("a", NORMAL)], scores=np.zeros(1, np.float32)))
    assert (tiny.bos_id, tiny.encode("a")) == (None, [0, 0])


def test_no_merge_makes_a_control_token() -> None:
    tokens = [("a", NORMAL), ("b", NORMAL), ("ab", CONTROL)]
    made = tokenizer_from_gguf(metadata("gpt2", tokens, merges=["a b"], pre="gpt-2"))
    assert made.encode("ab", parse_special=False) == [0, 1]
    assert made.encode("ab") == [2]


def test_capitals_in_the_vocabulary_keep_capitals_in_the_text() -> None:
    control = [("[UNK]", CONTROL), ("[CLS]", CONTROL), ("[SEP]", CONTROL)]
    cased = tokenizer_from_gguf(metadata("bert", [*control, ("▁A", NORMAL), ("▁a", NORMAL)]))
    assert cased.encode("A a") == [1, 3, 4, 2]
    assert tokenizer_from_gguf(word_pieces(**{"normalizer.lowercase": False})).encode("RUN run")[1:3] == [1, 9]
