"""From bytes to text: UTF-8, UTF-16 and UTF-32 by their marks, and CP949, in which Korean files were long written."""

from __future__ import annotations

import codecs
from typing import Final

from madang.core.errors import DocumentError
from madang.rag.parsing.cleaning import REPLACEMENT

# UTF-32 before UTF-16: its mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL: Final = bytes({*range(32)} - {*b"\t\n\v\f\r\x1b"})
_MOST_CONTROL: Final = 0.01  # share of control characters from which a file is no text
_MOST_BROKEN: Final = 0.001  # share of broken UTF-8 up to which a file is still that
_SAMPLE_CHARACTERS: Final = 20_000


def decode(name: str, data: bytes, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text, and notes about what was guessed or replaced; ``declared`` is what the file itself says.

    Raises DocumentError for what is not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _with_replacements(data[len(mark) :], encoding)
    if len(data) - len(data.translate(None, _CONTROL)) > _MOST_CONTROL * len(data):
        raise DocumentError(name, "it is binary, and in no format that madang reads", hint=READABLE)
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError:
        pass
    for other in (declared, "cp949"):
        found = _decoded(data, other) if other is not None else None
        if found is not None and (other == declared or _is_korean(found)):
            return found, (f"It is not in UTF-8, and was read as {str(other).upper()}.",)
    text, notes = _with_replacements(data, "utf-8")
    if text.count(REPLACEMENT) > _MOST_BROKEN * len(text):
        raise DocumentError(
            name, "its text is in none of UTF-8, UTF-16 with a byte order mark and CP949", hint="Save it as UTF-8."
        )
    return text, notes


READABLE: Final = (
    "Formats: text, Markdown, HTML, PDF, DOCX, HWPX, CSV and TSV, source code, and meetings (WebVTT, SRT, JSON, text)."
)


def _with_replacements(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    try:
        return data.decode(encoding), ()
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
        return text, (f"What was not valid {encoding[:6].upper()} was replaced by '{REPLACEMENT}'.",)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_korean(text: str) -> bool:
    """Whether most of what is not ASCII are syllables in use; other encodings, taken for CP949, give rare ones."""
    foreign = [character for character in text[:_SAMPLE_CHARACTERS] if not character.isascii()]
    if not foreign:  # it comes later
        foreign = [character for character in text if not character.isascii()][:_SAMPLE_CHARACTERS]
    common = "".join(character for character in foreign if "가" <= character <= "힣").encode("euc_kr", "ignore")
    return len(common) // 2 * 2 >= len(foreign)
