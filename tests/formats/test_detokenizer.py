"""Streaming text: whole characters, whatever the tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.formats.tokenizers.detokenizer import Detokenizer, decode
from madang.formats.tokenizers.tokenizer import Tokenizer
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary
from tests.formats.vocabularies import tokenizer

KOREAN_EMOJI_LATIN = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("가힣ㅋ한국어안녕é😀👩🏽\u200d🇰🇷ñß \n")), max_size=20
)
TRICKY_BYTES = st.lists(st.sampled_from([0x20, 0x41, 0x80, 0xBF, 0xC0, 0xC3, 0xE0, 0xED, 0xEA, 0xF0, 0xF4, 0xFF])).map(
    bytes
)


class ListedPieces:
    """A token model whose tokens are the pieces that a test lists."""

    def __init__(self, pieces: list[bytes], *, leading_space: bool = False) -> None:
        self.pieces = pieces
        self.leading_space = leading_space

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Not needed here."""
        raise AssertionError(text, parse_special)

    def guard(self, text: str) -> str:
        """Not needed here."""
        raise AssertionError(text)

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The piece of that number."""
        return self.pieces[int(text)]


def tokenizer_of(
    pieces: list[bytes], *, leading_space: bool = False, controls: frozenset[int] = frozenset()
) -> Tokenizer:
    kinds = [TokenKind.CONTROL if n in controls else TokenKind.NORMAL for n in range(len(pieces))]
    vocabulary = Vocabulary([str(n) for n in range(len(pieces))], kinds)
    return Tokenizer(vocabulary, ListedPieces(pieces, leading_space=leading_space))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(KOREAN_EMOJI_LATIN, st.lists(st.integers(min_value=0), max_size=20))
def test_whole_characters_whatever_the_split(text: str, cuts: list[int]) -> None:
    pieces = split(text.encode(), cuts)
    detokenizer = Detokenizer(tokenizer_of(pieces))
    deltas = [detokenizer.push(token_id) for token_id in range(len(pieces))]
    assert "".join(deltas) == text
    assert detokenizer.flush() == ""


@given(st.one_of(st.binary(max_size=40), TRICKY_BYTES), st.lists(st.integers(min_value=0), max_size=20))
@example(b"\xed\xa0\x80\xe0\x80A\xf0\x9f\x98", [1, 2, 3, 5, 8])
def test_any_bytes_in_any_split_decode_as_all_at_once(data: bytes, cuts: list[int]) -> None:
    pieces = split(data, cuts)
    detokenizer = Detokenizer(tokenizer_of(pieces))
    streamed = "".join([detokenizer.push(token_id) for token_id in range(len(pieces))])
    assert streamed + detokenizer.flush() == data.decode("utf-8", "replace")


def test_replacement_only_once_it_is_certain() -> None:
    detokenizer = Detokenizer(tokenizer_of([b"\xed", b"\x95", b"A", b"\xf0\x9f", b"\x98\x80", b"\xff", b"\xe0"]))
    assert [detokenizer.push(token_id) for token_id in range(7)] == ["", "", "\ufffdA", "", "😀", "\ufffd", ""]
    assert detokenizer.flush() == "\ufffd"


def test_control_tokens_add_nothing_and_break_no_character() -> None:
    made = tokenizer_of([b"\xed\x95", b"<|im_end|>", b"\x9c"], controls=frozenset({1}))
    assert decode(made, [0, 1, 2, 99]) == "한"


@pytest.mark.parametrize("at_start", [True, False])
def test_the_space_that_nobody_wrote(at_start: bool) -> None:
    made = tokenizer_of([b"<s>", b"", b" Paris", b" is"], leading_space=True, controls=frozenset({0}))
    assert decode(made, [0, 1, 2, 3], at_start=at_start) == ("Paris is" if at_start else " Paris is")


def test_only_one_leading_space_goes() -> None:
    made = tokenizer("llama")
    assert decode(made, made.encode("  a")) == "  a"
    assert decode(made, made.encode("가나다")) == "가나다"
