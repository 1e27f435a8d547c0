"""SentencePiece's text normalization: precompiled character rules, spaces as U+2581, the leading space.

Follows google/sentencepiece (src/normalizer.cc) exactly, because one different character means other tokens.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from madang.core.errors import MalformedFile
from madang.formats.tokenizers.specials import LiteralFinder

SPACE_MARK: Final = "\u2581"
# A unit that no byte matches.
_NO_UNIT: Final = 0x80000000
_MAX_KNOWN: Final = 65_536


@dataclass(frozen=True, slots=True)
class Normalizer:
    """How one model prepares a text.

    rules                    replacements for characters and sequences of them; None leaves the text as it is
    add_space_prefix         every text begins with a space, so that a first word is the same token as any other
    remove_extra_whitespace  no spaces at the ends, and one between words
    protected                the model's user-defined tokens, which rules must not touch
    """

    rules: CharacterRules | None
    add_space_prefix: bool
    remove_extra_whitespace: bool
    protected: LiteralFinder = field(default_factory=lambda: LiteralFinder({}))

    def normalize(self, text: str) -> str:
        """``text`` as the model wants it, spaces as U+2581; possibly empty."""
        chunks: list[str] = []
        for piece, is_protected in _around(self.protected, text):
            if is_protected:
                chunks.append(piece)
            elif self.rules is not None:
                chunks += self.rules.apply(piece)
            else:
                chunks += piece if self.remove_extra_whitespace else (piece,)
        joined = _squeeze(chunks) if self.remove_extra_whitespace else "".join(chunks)
        marked = (SPACE_MARK if self.add_space_prefix else "") + joined.replace(" ", SPACE_MARK)
        return marked.rstrip(SPACE_MARK) if self.remove_extra_whitespace else marked


def _around(protected: LiteralFinder, text: str) -> list[tuple[str, bool]]:
    """The pieces of ``text``, and whether each is a protected token."""
    pieces: list[tuple[str, bool]] = []
    start = 0
    while (found := protected.find(text, start)) is not None:
        begin, end, _ = found
        if begin > start:
            pieces.append((text[start:begin], False))
        pieces.append((text[begin:end], True))
        start = end
    if start < len(text):
        pieces.append((text[start:], False))
    return pieces


def _squeeze(chunks: list[str]) -> str:
    """The chunks joined, without spaces at the beginning of the text or after a chunk that ends with one.

    Spaces inside one chunk stay, as SentencePiece keeps them.
    """
    kept: list[str] = []
    after_space = True
    for chunk in chunks:
        rest = chunk.lstrip(" ") if after_space else chunk
        if rest:
            kept.append(rest)
            after_space = rest.endswith(" ")
    return "".join(kept)


class CharacterRules:
    """A ``precompiled_charsmap``: a double-array trie over UTF-8 bytes, and zero-terminated replacements.

    Layout (s-yata/darts-clone): length of the trie in bytes as u32, its units as u32, then the replacements. A broken
    table cannot lead outside of itself: an index beyond the end is no match.
    """

    __slots__ = ("_known", "_replacements", "_units")

    def __init__(self, path: Path, data: bytes) -> None:
        """Raises MalformedFile, naming ``path``, when the sizes do not fit."""
        if len(data) < 4:
            raise MalformedFile(path, "its table of character rules is cut off")
        (trie_bytes,) = struct.unpack_from("<I", data)
        if trie_bytes % 4 or trie_bytes > len(data) - 4:
            raise MalformedFile(path, "its table of character rules claims more than it holds")
        self._units = array("I", struct.unpack_from(f"<{trie_bytes // 4}I", data, 4))
        self._replacements = data[4 + trie_bytes :]
        self._known: dict[str, tuple[str, int]] = {}

    def apply(self, text: str) -> list[str]:
        """The text rule by rule: at each place the longest that fits, otherwise the character itself."""
        chunks: list[str] = []
        position = 0
        while position < len(text):
            # Nearly every answer depends on this character and the next one only.
            replacement, length = self._known.get(text[position : position + 2]) or self._longest(text, position)
            chunks.append(replacement)
            position += length
        return chunks

    def _longest(self, text: str, position: int) -> tuple[str, int]:
        """Replacement of, and number of characters in, the longest rule at ``position``."""
        found = text[position], 1
        node = self._offset(0)
        for index in range(position, len(text)):
            for byte in text[index].encode():
                node ^= byte
                unit = self._unit(node)
                if unit & 0x800000FF != byte:
                    if index <= position + 1:
                        self._remember(text[position : position + 2], found)
                    return found
                node ^= self._offset(node)
            if unit >> 8 & 1:
                found = self._replacement(self._unit(node) & 0x7FFFFFFF), index + 1 - position
        return found

    def _remember(self, window: str, found: tuple[str, int]) -> None:
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[window] = found

    def _unit(self, index: int) -> int:
        return self._units[index] if index < len(self._units) else _NO_UNIT

    def _offset(self, index: int) -> int:
        unit = self._unit(index)
        return unit >> 10 << ((unit & 0x200) >> 6)

    def _replacement(self, begin: int) -> str:
        end = self._replacements.find(b"\0", begin)
        return self._replacements[begin : end if end >= 0 else begin].decode("utf-8", "replace")
