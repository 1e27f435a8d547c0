"""Markdown: the text as it was written, with sections by its headings; front matter becomes facts.

Line by line after CommonMark (spec 0.31), in linear time: ATX and setext headings, fenced code, HTML comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from madang.rag.documents import Document
from madang.rag.parsing.building import MOST_SECTIONS, clean_text, finished, sections_of, shortened, title_of
from madang.rag.parsing.limits import ParsingLimits

FENCE: Final = re.compile(r"[ \t>]*(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH: Final = re.compile(r"(?: {4}|\t| {0,3}(?:[>|<]|[-+*][ \t]|\d{1,9}[.)][ \t]))")
_MOST_HEADING_CHARACTERS: Final = 500  # as it is written; the rest of such a line is no heading
_LINK: Final = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_MARKS: Final = re.compile(r"<[^<>]*>|\{#[^{}]*\}|`+|\*+|~~|(?<!\w)_+|_+(?!\w)")
_MOST_FACT_CHARACTERS: Final = 1000
_FACTS: Final = ("author", "date", "tags", "description", "lang")
_FIELD: Final = re.compile(r"([A-Za-z_][\w-]{0,40}):[ \t]*(.*)")


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """The document; its title is that of the front matter, or its first heading of the highest level."""
    text, found_notes = clean_text(name, text, limits)
    fields, body = _front_matter(text)
    headings = list(islice(_headings(text, body), MOST_SECTIONS))
    top = min((level for _, level, _ in headings), default=0)
    title = fields.get("title") or next((title for _, level, title in headings if level == top), title_of(name))
    facts: dict[str, Any] = {key: fields[key][:_MOST_FACT_CHARACTERS] for key in _FACTS if fields.get(key)}
    document = Document(
        title=shortened(title),
        media_type=media_type,
        text=text,
        sections=sections_of(text, headings, begin=body),
        facts=facts,
        notes=(*notes, *found_notes),
    )
    return finished(name, document)


def closes(line: str, fence: str) -> bool:
    """Whether a line ends the code that ``fence`` began."""
    bare = line.strip(" \t>")
    return bare.startswith(fence) and not bare.strip(fence[0])


def _headings(text: str, begin: int) -> Iterator[tuple[int, int, str]]:
    """(offset, level, title) of each heading."""
    fence = ""
    in_comment = False
    before, before_offset = "", begin  # the line before, where it can be the text of a setext heading
    for offset, line in lines_of(text, begin):
        if fence:
            fence = "" if closes(line, fence) else fence
            continue
        if in_comment or line.lstrip().startswith("<!--"):
            in_comment = "-->" not in line
            before = ""
            continue
        opened = FENCE.match(line)
        atx = _ATX.match(line[:_MOST_HEADING_CHARACTERS])
        setext = _SETEXT.match(line) if before else None
        if opened:
            fence = opened["fence"]
        elif atx:
            yield offset, len(atx[1]), _plain((atx[2] or "").rstrip().rstrip("#"))
        elif setext:
            yield before_offset, 1 if setext[1][0] == "=" else 2, _plain(before)
        is_text = not (opened or atx or setext or _NO_PARAGRAPH.match(line)) and len(line) <= _MOST_HEADING_CHARACTERS
        # Of a paragraph of several lines, all would be the heading; that is rarer than a rule below a paragraph.
        before, before_offset = (line.strip(), offset) if is_text and not before else ("", offset)


def lines_of(text: str, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Offset and content of each line of ``[begin, end)``, without its end."""
    end = len(text) if end is None else end
    while begin < end:
        line_end = text.find("\n", begin, end)
        line_end = end if line_end < 0 else line_end
        yield begin, text[begin:line_end]
        begin = line_end + 1


def _plain(heading: str) -> str:
    """A heading without links, emphasis, code marks, tags and identifiers."""
    heading = _LINK.sub(r"\1", heading)
    return " ".join(_MARKS.sub("", heading).split()) or " ".join(heading.split())


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """The fields at its top that are one line each, and where the rest begins."""
    if not text.startswith("---\n"):
        return {}, 0
    end = text.find("\n---", 3)
    if end < 0 or text[end + 4 : end + 5].strip():
        return {}, 0
    fields: dict[str, str] = {}
    for line in text[4:end].split("\n"):
        match = _FIELD.fullmatch(line)
        if match:
            fields[match[1].lower()] = match[2].strip().strip("\"'").strip()
    begin = text.find("\n", end + 1)
    return fields, len(text) if begin < 0 else begin + 1
