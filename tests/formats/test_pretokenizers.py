"""Every rule compiles; a few are spelled out."""

from __future__ import annotations

import pytest

from madang.core.errors import UnsupportedModel
from madang.formats.tokenizers.pretokenizers import pretokenizer, pretokenizer_names

tokenizers = pytest.importorskip("tokenizers")


def words(name: str, text: str) -> list[str]:
    steps = tokenizers.pre_tokenizers
    splits = [steps.Split(tokenizers.Regex(pattern), "isolated") for pattern in pretokenizer(name).splits]
    return [word for word, _ in steps.Sequence(splits).pre_tokenize_str(text)]


@pytest.mark.parametrize("name", pretokenizer_names())
def test_every_rule_keeps_every_character(name: str) -> None:
    text = "Hello  world's 12345\r\n\n안녕하세요 camelCase 日本語 Ⅻ½ x²\t  \u1fbe\u212a 😀!!"
    assert "".join(words(name, text)) == text
    for pattern in pretokenizer(name).byte_splits:
        tokenizers.Regex(pattern)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-2", ["I", "'ll", " pay", " 1234", "  ", " won", "\n"]),
        ("smollm", ["I", "'ll", " pay", " ", "1", "2", "3", "4", "  ", " won", "\n"]),
        ("llama-bpe", ["I", "'ll", " pay", " ", "123", "4", "  ", " won", "\n"]),
        ("qwen2", ["I", "'ll", " pay", " ", "1", "2", "3", "4", "  ", " won", "\n"]),
        ("deepseek-coder", ["I", "'", "ll", " pay", " ", "1", "2", "3", "4", "  ", " won", "\n"]),
    ],
)
def test_words(name: str, expected: list[str]) -> None:
    assert words(name, "I'll pay 1234   won\n") == expected


def test_upper_case_starts_a_word_where_the_rule_says_so() -> None:
    assert words("gpt-4o", "camelCase it'S") == ["camel", "Case", " it'S"]
    assert words("tekken", "camelCase") == ["camel", "Case"]


def test_letters_that_normalization_would_change_are_the_right_ones() -> None:
    assert words("deepseek-llm", "\u212a\u2126\u1f7d\u1fbe\u1fd3\u1fdb") == ["\u212a\u2126\u1f7d\u1fbe\u1fd3\u1fdb"]


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="'nonsense'"):
        pretokenizer("nonsense")
