"""DOCX (Office Open XML, ECMA-376): paragraphs, headings by their styles' outline levels, lists and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document
from madang.rag.parsing.archive import Archive
from madang.rag.parsing.building import TextBuilder, title_of
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.recognising import DOCX
from madang.rag.parsing.rows import Rows
from madang.rag.parsing.xml_events import read_xml

_MAIN: Final = "word/document.xml"
_STYLES: Final = "word/styles.xml"
_PROPERTIES: Final = "docProps/core.xml"
_HEADING: Final = re.compile(r"(?:heading|제목|개요)\s?([1-9])", re.IGNORECASE)
_AGAIN: Final = ("Fallback", "moveFrom")  # a drawing again, for older programs, and what stands elsewhere now
_TITLE_LEVEL: Final = 0
_BODY_LEVEL: Final = 9  # the outline level that is none


def parse(name: str, data: bytes, limits: ParsingLimits) -> Document:
    """The document; deleted text of tracked changes is left out, as are headers, footers, notes and comments."""
    archive = Archive(name, data, limits)
    if _MAIN not in archive.names:
        raise DocumentError(name, f"it is damaged: there is no {_MAIN} inside", hint="Save it again.")
    styles = _Styles()
    if _STYLES in archive.names:
        read_xml(name, archive.read(_STYLES), styles, limits)
    properties = Properties()
    if _PROPERTIES in archive.names:
        read_xml(name, archive.read(_PROPERTIES), properties, limits)
    body = _Body(TextBuilder(name, limits), styles.levels)
    read_xml(name, archive.read(_MAIN), body, limits)
    title = properties.title or body.first_heading or title_of(name)
    n_images = sum(entry.startswith("word/media/") for entry in archive.names)
    notes = (f"Images left out: {n_images:,}.",) if n_images else ()
    return body.builder.finish(title, DOCX.media_type, properties.facts, notes)


class Properties:
    """Title, author and date of a document (Dublin Core)."""

    def __init__(self) -> None:
        self.title = ""
        self.facts: dict[str, Any] = {}
        self._text: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._text.clear()

    def end(self, tag: str) -> None:
        """An element ends."""
        value = " ".join("".join(self._text).split())[:1000]
        if tag == "title":
            self.title = value
        elif tag == "creator" and value:
            self.facts["author"] = value
        elif tag in ("created", "CreatedDate") and value:
            self.facts["date"] = value[:10]
        self._text.clear()

    def text(self, text: str) -> None:
        """Characters of the element."""
        self._text.append(text)


class _Styles:
    """Heading levels by the identifier of a style; a style without one has that of the style it is based on."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self._style = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("val", "")
        if tag == "style":
            self._style = attributes.get("styleId", "")
        elif tag == "name":
            heading = _HEADING.match(value)
            if heading:
                self.levels[self._style] = int(heading[1])
            elif value.lower() == "title":
                self.levels[self._style] = _TITLE_LEVEL
        elif tag == "basedOn" and value in self.levels:
            self.levels.setdefault(self._style, self.levels[value])
        elif tag == "outlineLvl" and value.isdecimal() and int(value) < _BODY_LEVEL:
            self.levels[self._style] = int(value) + 1

    def end(self, tag: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class _Body:
    """Hands each paragraph to the builder when it ends, or keeps it for the row of the table that it is in."""

    def __init__(self, builder: TextBuilder, levels: Mapping[str, int]) -> None:
        self.builder = builder
        self.first_heading = ""
        self._levels = levels
        self._rows = Rows(builder)
        self._paragraphs: list[list[str]] = []  # open ones: a text box stands inside a paragraph
        self._level: int | None = None
        self._is_item = False
        self._in_text = False
        self._n_again = 0  # open elements of _AGAIN

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("val", "")
        if tag == "p":
            self._paragraphs.append([])
            self._level, self._is_item = None, False
        elif tag == "t":
            self._in_text = not self._n_again
        elif tag in ("tab", "br", "cr") and self._paragraphs and "pos" not in attributes:  # no tab stop of the style
            self._paragraphs[-1].append("\t" if tag == "tab" else "\n")
        elif tag == "pStyle":
            self._level = self._levels.get(value, self._level)
        elif tag == "outlineLvl" and value.isdecimal() and int(value) < _BODY_LEVEL:
            self._level = int(value) + 1
        elif tag == "numPr":
            self._is_item = True
        elif tag in _AGAIN:
            self._n_again += 1
        elif tag in ("tbl", "tr", "tc"):
            self._rows.start(tag)

    def end(self, tag: str) -> None:
        if tag == "p" and self._paragraphs:
            self._write("".join(self._paragraphs.pop()).strip())
        elif tag == "t":
            self._in_text = False
        elif tag in _AGAIN:
            self._n_again -= 1
        elif tag in ("tbl", "tr", "tc"):
            self._rows.end(tag)

    def text(self, text: str) -> None:
        if self._in_text and self._paragraphs:
            self._paragraphs[-1].append(text)

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._rows.is_open:
            self._rows.add(text)
        elif self._level is not None:
            self.first_heading = self.first_heading or " ".join(text.split())
            self.builder.heading(self._level, text)
        elif self._is_item:
            self.builder.line(f"- {text}")
        else:
            self.builder.paragraph(text)
        self._level, self._is_item = None, False
