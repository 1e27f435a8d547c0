"""WebVTT and SRT: cues with their times left out, turns by the speakers that are marked."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document
from madang.rag.parsing.building import require_characters
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.turns import Meeting, joined, said_by, written_meeting

_TIMES: Final = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s+-->\s+(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_VOICE: Final = re.compile(r"<v(?:\.[^ \t<>]{0,50})?[ \t]{1,9}([^<>]{1,100})>")
_TAG: Final = re.compile(r"</?[a-zA-Z0-9][^<>]{0,200}>|\{\\[^{}]{0,100}\}")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """The meeting. Raises DocumentError where there are no cues."""
    require_characters(name, len(text), limits)
    turns = joined(_turns(_LINE_END.split(text)))
    if not turns:
        raise DocumentError(
            name, "there are no subtitles in it", hint="Each one has a line such as 00:01.000 --> 00:04.000."
        )
    return written_meeting(name, [Meeting(turns)], media_type, limits, notes)


def _turns(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pieces of turns, one for each voice of a cue. A cue goes from its times to an empty line."""
    speaker: str | None = None
    in_cue = False
    for line in lines:
        if _TIMES.match(line):
            in_cue = True
        elif not line.strip():
            in_cue = False
        elif in_cue:
            voice = _VOICE.search(line)
            said = html.unescape(_TAG.sub("", line)).strip()
            if voice:
                speaker = html.unescape(voice[1]).strip()
            else:
                speaker, said = said_by(said, speaker)
            if said:
                yield speaker, said
