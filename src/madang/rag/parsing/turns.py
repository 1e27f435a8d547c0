"""Meetings: who said what, one turn per line, with the speakers and the date among the facts of the document.

The text of a meeting has a line ``Name: what was said`` for each turn, in order, also where nothing was said; chunking
knows a meeting by its speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from madang.rag.documents import Document
from madang.rag.parsing.building import TextBuilder, title_of
from madang.rag.parsing.cleaning import clean
from madang.rag.parsing.limits import ParsingLimits

UNKNOWN_SPEAKER: Final = "?"
_MOST_NAME_CHARACTERS: Final = 60
_MOST_SPEAKERS: Final = 50  # of a text that is taken for a meeting
_MOST_SPEAKERS_TOLD: Final = 1000  # with more, the document is text like any other
_LEAST_TURNS: Final = 4
_LEAST_SHARE: Final = 0.6  # of the lines of a meeting that begin a turn
_TIME: Final = r"\[?\(?\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?\)?\]?"
_TURN: Final = re.compile(
    rf"(?:{_TIME}\s{{1,4}})?(?P<name>[^\W\d_][^:\n\t#{{}}=<>\"]{{0,40}}?)\s{{0,2}}(?:{_TIME})?\s?[::](?:\s+|$)(?P<said>.*)"
)
_DATE: Final = re.compile(r"(?<!\d)(20\d\d|19\d\d)(?:[-./_]|년 ?)(\d{1,2})(?:[-./_]|월 ?)(\d{1,2})(?!\d)")
_DATED: Final = re.compile(r"(?:meeting )?(?:date|일시|날짜|회의일|일자|time)", re.IGNORECASE)
_ABOUT: Final = re.compile(
    r"(?:participants|attendees|참석자|참석|장소|subject|topic|안건|주제|제목|title|place)", re.I
)
_NO_SPEAKERS: Final = frozenset({"http", "https", "Note", "NOTE", "참고", "주의"})


@dataclass(slots=True)
class Meeting:
    """Turns of (speaker, what was said), in order."""

    turns: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def written_meeting(
    name: str, meetings: Sequence[Meeting], media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()
) -> Document:
    """The document of one meeting, or of several in one file, each then under a heading of its own."""
    builder = TextBuilder(name, limits)
    speakers: dict[str, None] = {}
    for number, meeting in enumerate(meetings, 1):
        if len(meetings) > 1:
            builder.heading(1, f"Meeting {number}")
        for key, value in meeting.facts.items():
            builder.line(f"{key}: {value}")
        for speaker, said in meeting.turns:
            speaker = _name(speaker)
            speakers[speaker] = None
            builder.line(f"{speaker}: {' '.join(said.split())}".rstrip())
    facts: dict[str, Any] = {"n_turns": sum(len(meeting.turns) for meeting in meetings)}
    if len(speakers) <= _MOST_SPEAKERS_TOLD:
        facts["speakers"] = list(speakers)
    date = _date_of(name, meetings)
    if date is not None:
        facts["date"] = date
    return builder.finish(title_of(name), media_type, facts, notes)


def turns_of_lines(text: str) -> Meeting | None:
    """A meeting, where most lines are turns of few speakers who speak again and again; None for any other text."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    matches = [_TURN.match(line[:200]) for line in lines]
    names = Counter(match["name"].strip() for match in matches if match)
    n_headers = sum(names.pop(name) for name in list(names) if _is_header(name))
    speakers = {name for name, n_turns in names.items() if n_turns > 1}
    n_turns = sum(names[name] for name in speakers)
    least = max(_LEAST_TURNS, 2 * len(names), _LEAST_SHARE * (len(lines) - n_headers))
    if n_turns < least or not 2 <= len(speakers) <= _MOST_SPEAKERS:
        return None
    meeting = Meeting()
    for line, match in zip(lines, matches, strict=True):
        speaker = match["name"].strip() if match else ""
        if match and not meeting.turns and _is_header(speaker):
            meeting.facts[speaker] = line[match.start("said") :]
        elif match and speaker not in _NO_SPEAKERS:
            meeting.turns.append((speaker, line[match.start("said") :]))
        elif meeting.turns:  # the turn before goes on
            last, said = meeting.turns[-1]
            meeting.turns[-1] = (last, f"{said} {line}")
        else:
            meeting.turns.append((UNKNOWN_SPEAKER, line))
    return meeting


def said_by(text: str, known: str | None = None) -> tuple[str, str]:
    """Who says a line of subtitles, and what: by its mark, by "Name: text", or the ``known`` speaker before."""
    match = _TURN.match(text)
    if match and match["name"].strip() not in _NO_SPEAKERS:
        return match["name"].strip(), match["said"]
    return known or UNKNOWN_SPEAKER, text


def joined(turns: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Turns, where pieces of the same speaker in a row become one."""
    result: list[tuple[str, list[str]]] = []
    for speaker, said in turns:
        if result and result[-1][0] == speaker:
            result[-1][1].append(said)
        else:
            result.append((speaker, [said]))
    return [(speaker, " ".join(said)) for speaker, said in result]


def _is_header(name: str) -> bool:
    return bool(_DATED.fullmatch(name) or _ABOUT.fullmatch(name))


def _name(speaker: str) -> str:
    return " ".join(clean(speaker)[0].replace(":", " ").split())[:_MOST_NAME_CHARACTERS] or UNKNOWN_SPEAKER


def _date_of(name: str, meetings: Sequence[Meeting]) -> str | None:
    told = [str(value) for meeting in meetings for key, value in meeting.facts.items() if _DATED.fullmatch(key)]
    for text in (*told, name):
        match = _DATE.search(text)
        if match and 1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31:
            return f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}"
    return None
