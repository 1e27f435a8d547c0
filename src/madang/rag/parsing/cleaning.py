"""Characters that no text needs and that break programs or deceive readers: taken out before offsets are counted."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_NEW_LINE = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Control characters, halves of UTF-16 pairs, and what is no character.
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
# Byte order marks, and the tag characters in which instructions can be hidden from a reader.
_INVISIBLE = re.compile("[\ufeff\U000e0000-\U000e007f]")
# What macOS and some programs write apart: letters of a syllable, and marks over a letter. Each match is short or has
# no marks to sort, for sorting them takes quadratic time.
_DECOMPOSED = re.compile("[\u1100-\u11ff]+|[^\n][\u0300-\u036f\u3099\u309a]{1,8}")


def clean(text: str) -> tuple[str, int]:
    """The text with ``\\n`` between lines, in composed form (NFC), and how many characters were unreadable."""
    text = _NEW_LINE.sub("\n", text)
    if text.isascii():
        return _UNREADABLE.subn(REPLACEMENT, text)
    text = _INVISIBLE.sub("", text)
    text = _DECOMPOSED.sub(lambda match: unicodedata.normalize("NFC", match[0]), text)
    return _UNREADABLE.subn(REPLACEMENT, text)
