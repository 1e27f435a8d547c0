"""JSON: meetings in the shapes that data sets and speech recognisers write; any other JSON is text.

QMSum has ``{"meeting_transcripts": [{"speaker", "content"}]}``, one meeting per file or line; recognisers write
``{"segments": [{"speaker", "text"}]}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from madang.rag.documents import Document
from madang.rag.parsing import text as plain
from madang.rag.parsing.building import require_characters
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.turns import Meeting, written_meeting

_LISTS: Final = ("meeting_transcripts", "transcript", "transcripts", "segments", "utterances", "turns")
_SAID: Final = ("content", "text", "utterance")


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """The meetings in it, or its text."""
    require_characters(name, len(text), limits)
    meetings = _meetings(text)
    if meetings:
        return written_meeting(name, meetings, media_type, limits, notes)
    return plain.parse(name, text, media_type, limits, notes)


def _meetings(text: str) -> list[Meeting]:
    values: list[Any] = []
    try:
        values = [json.loads(text)]
    except (ValueError, RecursionError):
        try:
            values = [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return []
    meetings = [_meeting(value) for value in values]
    return [meeting for meeting in meetings if meeting is not None] if all(meetings) else []


def _meeting(value: Any) -> Meeting | None:
    facts = {}
    if isinstance(value, dict):
        facts = {key: value[key] for key in ("title", "date") if isinstance(value.get(key), str)}
        value = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    if not isinstance(value, list) or not value:
        return None
    turns = [_turn(entry) for entry in value]
    found = [turn for turn in turns if turn is not None]
    return Meeting(found, facts) if len(found) == len(turns) else None


def _turn(entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("speaker"), str):
        return None
    said = next((entry[key] for key in _SAID if isinstance(entry.get(key), str)), None)
    return None if said is None else (entry["speaker"], said)
