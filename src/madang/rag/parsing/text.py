"""Plain text; records of meetings are found in it by their form."""

from __future__ import annotations

from collections.abc import Sequence

from madang.rag.documents import Document, Section
from madang.rag.parsing.building import clean_text, title_of
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.turns import turns_of_lines, written_meeting


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """The text as it is, or as a meeting when most of its lines are "Name: what was said"."""
    text, found_notes = clean_text(name, text, limits)
    notes = (*notes, *found_notes)
    meeting = turns_of_lines(text)
    if meeting is not None:
        return written_meeting(name, [meeting], media_type, limits, notes)
    return Document(
        title=title_of(name), media_type=media_type, text=text, sections=(Section((), 0, len(text)),), notes=notes
    )
