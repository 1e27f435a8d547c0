"""SentencePiece's corners: ties, unused tokens, unknown runs, spaces, user-defined tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from madang.formats.tokenizers.normalizer import CharacterRules
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_gguf
from tests.formats.vocabularies import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, metadata, sentencepiece


def made_of(pieces: dict[str, float], *, model: str = "llama", kinds: dict[str, int] | None = None) -> Tokenizer:
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens += [(piece, (kinds or {}).get(piece, NORMAL)) for piece in pieces]
    scores = np.array([0, 0, 0, *pieces.values()], np.float32)
    keys = {"add_space_prefix": False, "unknown_token_id": 0, "add_bos_token": False, "add_eos_token": False}
    return tokenizer_from_gguf(metadata(model, tokens, scores=scores, **keys))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_text(token_id) for token_id in tokenizer.encode(text, add_special=False)]


def test_of_equal_scores_the_leftmost_merges_first() -> None:
    # "aba" can be made of ab+a and of a+ba; ranking the pairs instead would take the second one here.
    tokenizer = made_of({"a": -9, "b": -9, "ab": -1, "ba": -2, "aba": -3, "xab": -0.5, "x": -9})
    assert pieces(tokenizer, "ababa") == ["ab", "aba"]
    assert pieces(tokenizer, "xababa") == ["xab", "aba"]


def test_an_unused_token_helps_and_then_falls_apart() -> None:
    tokenizer = made_of({"a": -9, "b": -9, "c": -9, "ab": -1, "abc": -2}, kinds={"abc": UNUSED})
    assert pieces(tokenizer, "abc") == ["ab", "c"]


def test_a_run_of_unknown_characters_is_one_unknown_token() -> None:
    tokenizer = made_of({"a": -1})
    assert pieces(tokenizer, "xyza가나") == ["<unk>", "a", "<unk>"]


def test_user_defined_tokens_are_found_first_and_never_merged() -> None:
    tokenizer = made_of(
        {"a": -1, "aa": -2, "<t>": 0, "  ": 0, "▁": -3}, kinds={"<t>": USER_DEFINED, "  ": USER_DEFINED}
    )
    assert pieces(tokenizer, "a<t>aa") == ["a", "<t>", "aa"]
    assert pieces(tokenizer, "a   a") == ["a", "  ", "▁", "a"]


def test_runs_of_spaces_survive() -> None:
    tokenizer = tokenizer_from_gguf(sentencepiece())
    assert pieces(tokenizer, "a   a ") == ["▁a", "▁", "▁", "▁a", "▁"]
    squeezed = tokenizer_from_gguf(sentencepiece(remove_extra_whitespaces=True))
    assert pieces(squeezed, "  a   a ") == ["▁a", "▁a"]
    assert pieces(squeezed, "   ") == []


def test_a_space_before_each_stretch_of_text() -> None:
    tokenizer = tokenizer_from_gguf(sentencepiece())
    assert pieces(tokenizer, "a</s>a") == ["▁a", "</s>", "▁a"]


@given(st.binary(max_size=200), st.text(max_size=20))
def test_a_broken_table_of_rules_stays_inside_itself(table: bytes, text: str) -> None:
    units = len(table) // 4 * 4
    rules = CharacterRules("model.gguf", units.to_bytes(4, "little") + table)  # type: ignore[arg-type]
    assert all(isinstance(chunk, str) for chunk in rules.apply(text))
