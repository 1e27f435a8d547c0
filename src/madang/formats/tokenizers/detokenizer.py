"""From tokens to text, one token at a time, whole characters only."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Collection, Iterable

from madang.formats.tokenizers.tokenizer import Tokenizer

_Utf8Decoder = getincrementaldecoder("utf-8")


class Detokenizer:
    """Turns the tokens of one answer into text.

    A token may end inside a character (one Hangul syllable is two or three tokens in many vocabularies), so bytes wait
    until their character is complete. Bytes that can no longer become one turn into U+FFFD, as soon as that is certain
    and not earlier. Control tokens add nothing, but for those that are to be shown. Whatever the split into tokens: all
    that ``push`` returned plus ``flush`` is the UTF-8 decoding of all bytes. An answer that a limit cuts goes without
    ``flush``: only the beginning of a character can be missing from it.
    """

    __slots__ = ("_bytes", "_decode", "_drop_space", "_is_control", "_shown")

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool = True, shown: Collection[int] = frozenset()) -> None:
        """Begin an answer.

        at_start    the tokens begin a text, so the space that SentencePiece puts there is taken away; False for text
                    that goes on where a prompt ended, where that space is real
        shown       control tokens that are spelled out, as a dialect's markers are
        """
        self._bytes = tokenizer.token_bytes
        self._is_control = tokenizer.is_control
        self._decode = _Utf8Decoder(errors="replace").decode
        self._shown = shown
        self._drop_space = at_start and tokenizer.leading_space

    def push(self, token_id: int) -> str:
        """The text that this token completes; often empty."""
        if self._is_control(token_id) and token_id not in self._shown:
            return ""
        data = self._bytes(token_id)
        if self._drop_space and data:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._decode(data)

    def flush(self) -> str:
        """The rest: U+FFFD when a character was left incomplete, otherwise empty."""
        return self._decode(b"", final=True)


def decode(tokenizer: Tokenizer, token_ids: Iterable[int], *, at_start: bool = True) -> str:
    """The text of ``token_ids``; ``at_start`` as in Detokenizer."""
    detokenizer = Detokenizer(tokenizer, at_start=at_start)
    return "".join([*map(detokenizer.push, token_ids), detokenizer.flush()])
