"""How much a document may be, and may cost to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsingLimits:
    """All bounds include the number itself.

    file_bytes       of the file as it lies there
    characters       of the text that comes out
    pages            of a PDF
    zip_entries      files inside a DOCX or HWPX
    expanded_bytes   that these files have together when they are unpacked
    nesting          elements of XML inside each other
    time_s           to read a format that has a process of its own
    memory_bytes     that this process may have (where the system can limit it)
    """

    file_bytes: int = 100_000_000
    characters: int = 10_000_000
    pages: int = 5_000
    zip_entries: int = 10_000
    expanded_bytes: int = 200_000_000
    nesting: int = 1_000
    time_s: float = 60.0
    memory_bytes: int = 2_000_000_000
