"""Where in a text each of its tokens stands.

A token's bytes are usually a part of the text's own, and then its place is certain. Where a tokenizer changed the text
before it split it (lower case, accents taken off, other forms of a letter), both sides are reduced to what such changes
leave alone, and matched in their order.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from madang.formats.tokenizers.tokenizer import Tokenizer
from madang.formats.tokenizers.vocabulary import TokenKind

Span: TypeAlias = tuple[int, int]

_NEAR = 64  # letters that a tokenizer may have left out between two tokens


def token_spans(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[Span]:
    """Begin and end in characters of ``text`` for each of ``ids``, which ``encode`` made of it without adding any.

    Tokens that are parts of one character all have that character. Spans do not overlap otherwise, and are in order; a
    token that stands for nothing in the text, or for what cannot be found in it, has an empty one.
    """
    pieces = [tokenizer.token_bytes(token_id) for token_id in ids]
    if pieces and tokenizer.leading_space:
        pieces[0] = pieces[0].removeprefix(b" ")
    data = text.encode("utf-8", "surrogatepass")
    if b"".join(pieces) == data:
        return _exact(text, pieces)
    is_unknown = [tokenizer.vocabulary.kinds[token_id] == TokenKind.UNKNOWN for token_id in ids]
    return _matched(text, [b"" if unknown else piece for piece, unknown in zip(pieces, is_unknown, strict=True)])


def _exact(text: str, pieces: Sequence[bytes]) -> list[Span]:
    """Bytes add up to the text: from a byte to the character that it is in."""
    begins = [0, *accumulate(len(character.encode("utf-8", "surrogatepass")) for character in text)]
    spans: list[Span] = []
    at = 0
    for piece in pieces:
        end = at + len(piece)
        spans.append(
            (bisect_right(begins, at) - 1, bisect_left(begins, end)) if piece else (bisect_left(begins, at),) * 2
        )
        at = end
    return spans


def _matched(text: str, pieces: Sequence[bytes]) -> list[Span]:
    """In order, each as early as it can be found; what is not found lies between its neighbours."""
    letters, places = _reduced_with_places(text)
    spans: list[Span | None] = [None] * len(pieces)
    at, is_lost = 0, False
    for numbers, said in _whole(pieces):
        wanted = _reduced(said)
        # What is far away is another one like it, unless a token before stands for nobody knows how much.
        end = len(letters) if is_lost else at + len(wanted) + _NEAR
        found = letters.find(wanted, at, end) if wanted else -1
        is_lost = found < 0
        if is_lost:
            continue
        at = found + len(wanted)
        span = places[found], places[at - 1] + 1
        if said[:1].isspace() and span[0] > 0 and text[span[0] - 1].isspace():
            span = span[0] - 1, span[1]
        for number in numbers:
            spans[number] = span
    return _filled(text, spans)


def _whole(pieces: Sequence[bytes]) -> Iterator[tuple[list[int], str]]:
    """Numbers of tokens, and the text that they are together: more than one where characters are cut."""
    numbers: list[int] = []
    data = b""
    for number, piece in enumerate(pieces):
        numbers.append(number)
        data += piece
        try:
            said = data.decode()
        except UnicodeDecodeError:
            if len(data) - len(piece) < 4:  # no character has more bytes
                continue
            said = data.decode("utf-8", "replace")
        yield numbers, said
        numbers, data = [], b""


def _reduced(text: str) -> str:
    return "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text.casefold())
        if not (letter.isspace() or unicodedata.combining(letter))
    )


def _reduced_with_places(text: str) -> tuple[str, list[int]]:
    """Reduced, and of each letter of that the character of ``text`` which it comes from."""
    reduced = [_reduced(character) for character in text]
    return "".join(reduced), [place for place, letters in enumerate(reduced) for _ in letters]


def _filled(text: str, spans: Sequence[Span | None]) -> list[Span]:
    """Tokens without a place share what their neighbours leave, blanks at its ends apart."""
    filled: list[Span] = []
    end = 0
    for span, following in zip(spans, _next_begins(text, spans), strict=True):
        if span is None:
            rest = text[end:following]
            begin = end + len(rest) - len(rest.lstrip())
            filled.append((begin, begin + len(rest.strip())) if rest.strip() else (end, end))
        else:
            filled.append(span)
            end = max(end, span[1])
    return filled


def _next_begins(text: str, spans: Sequence[Span | None]) -> list[int]:
    """For each place, where the next token that has one begins."""
    begins: list[int] = []
    following = len(text)
    for span in reversed(spans):
        begins.append(following)
        following = following if span is None else span[0]
    return begins[::-1]
