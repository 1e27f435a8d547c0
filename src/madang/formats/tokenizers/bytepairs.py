"""Byte-level byte-pair encoding (GPT-2 and most models since): words by regular expression, bytes as letters, merges.

The `tokenizers` library does the work; this module builds its model from what GGUF holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import pre_tokenizers as steps
from tokenizers.models import BPE
from tokenizers.normalizers import NFC

from madang.core.errors import MalformedFile
from madang.formats.tokenizers.pretokenizers import PreTokenizer
from madang.formats.tokenizers.specials import SpecialTokens
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary


class BytePairs:
    """One byte-level vocabulary and its merges, ready to encode. Immutable, any number of threads may use it."""

    leading_space = False

    def __init__(self, path: Path, vocabulary: Vocabulary, merges: Sequence[str], rule: PreTokenizer) -> None:
        """``merges`` are pairs of token texts, separated by a space, most important first.

        Raises MalformedFile, naming ``path``, when a merge is not a pair or speaks of a token that does not exist.
        """
        self._specials = SpecialTokens(vocabulary)
        self._library = byte_level_library(path, vocabulary, merges, rule)

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of ``text``; control tokens in it count when ``parse_special``."""
        return self._specials.encode(text, self._encode_plain, parse_special=parse_special)

    def guard(self, text: str) -> str:
        """``text`` with its control tokens disarmed."""
        return self._specials.guard(text)

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The bytes that a token stands for."""
        if kind in (TokenKind.NORMAL, TokenKind.UNUSED):
            return bytes_of_letters(text)
        return text.encode()

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's alphabet: bytes that print stand for themselves, the others for the letters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def bytes_of_letters(text: str) -> bytes:
    """The bytes of a token in GPT-2's alphabet ("Ġa" -> b" a"); a token that leaves the alphabet stands for itself."""
    try:
        return bytes(map(_byte_of_letter().__getitem__, text))
    except KeyError:
        return text.encode()


def _usable_merges(
    path: Path, merges: Sequence[str], ids: Mapping[str, int], control: Mapping[str, int]
) -> list[tuple[str, str]]:
    """The merges as pairs, all of tokens that exist (the library would crash on others).

    None of them makes a control token: then nothing that a person types can become one.
    """
    usable: list[tuple[str, str]] = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left in ids and right in ids and left + right in ids:
            usable.append((left, right))
        elif not left or not right or " " in right:
            raise MalformedFile(path, f"the merge {merge!r} is not two tokens with a space between them")
        elif control.keys().isdisjoint((left, right, left + right)):
            raise MalformedFile(path, f"the merge {merge!r} speaks of a token that does not exist")
    return usable


def byte_level_library(
    path: Path, vocabulary: Vocabulary, merges: Sequence[str], rule: PreTokenizer, *, with_control: bool = False
) -> LibraryTokenizer:
    """The library's tokenizer for this vocabulary; in it, control tokens only are tokens ``with_control``."""
    control = vocabulary.ids_of(TokenKind.CONTROL, TokenKind.UNKNOWN)
    hidden = {} if with_control else control
    ids = {text: token_id for token_id, text in enumerate(vocabulary.texts) if text and text not in hidden}
    model = BPE(ids, _usable_merges(path, merges, ids, control), ignore_merges=rule.ignore_merges)
    library = LibraryTokenizer(model)
    if rule.nfc:
        library.normalizer = NFC()
    library.pre_tokenizer = word_splitter(rule)
    return library


def word_splitter(rule: PreTokenizer) -> steps.PreTokenizer:
    """The library's form of a rule; pieces come in GPT-2's alphabet."""
    return steps.Sequence(
        [
            *(steps.Split(Regex(pattern), "isolated") for pattern in rule.splits),
            steps.ByteLevel(add_prefix_space=False, use_regex=False),
            *(steps.Split(Regex(pattern), "isolated") for pattern in rule.byte_splits),
        ]
    )
