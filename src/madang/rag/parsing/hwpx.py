"""HWPX (OWPML, KS X 6101): the sections of a Hangul document, headings by the outline levels of paragraph shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document
from madang.rag.parsing.archive import Archive
from madang.rag.parsing.building import TextBuilder, title_of
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.recognising import HWPX
from madang.rag.parsing.rows import Rows
from madang.rag.parsing.xml_events import read_xml

_SECTION: Final = re.compile(r"Contents/section(\d{1,4})\.xml", re.IGNORECASE)
_HEADER: Final = "Contents/header.xml"
_PACKAGE: Final = "Contents/content.hpf"
_MANIFEST: Final = "META-INF/manifest.xml"
_OUTLINE_STYLE: Final = re.compile(r"(?:개요|outline)\s?([1-9]|10)", re.IGNORECASE)
# What stands beside the text of a run: its own paragraphs are no part of the document's order.
_ASIDE: Final = frozenset(("header", "footer", "hiddenComment", "memo", "footNote", "endNote"))


def parse(name: str, data: bytes, limits: ParsingLimits) -> Document:
    """The document; headers, footers, notes and hidden comments are left out."""
    archive = Archive(name, data, limits)
    sections = sorted((int(match[1]), entry) for entry in archive.names if (match := _SECTION.fullmatch(entry)))
    if not sections:
        raise DocumentError(name, "it is damaged: there is no Contents/section0.xml inside", hint="Save it again.")
    _require_plain(name, archive, limits)
    shapes = _Shapes()
    if _HEADER in archive.names:
        read_xml(name, archive.read(_HEADER), shapes, limits)
    package = _Package()
    if _PACKAGE in archive.names:
        read_xml(name, archive.read(_PACKAGE), package, limits)
    body = _Body(TextBuilder(name, limits), shapes)
    for _, entry in sections:
        read_xml(name, archive.read(entry), body, limits)
    notes = []
    if body.n_asides:
        notes.append(f"Headers, footers, notes and comments left out: {body.n_asides:,}.")
    n_images = sum(entry.startswith("BinData/") for entry in archive.names)
    if n_images:
        notes.append(f"Images left out: {n_images:,}.")
    title = package.facts.pop("title", "") or body.first_heading or title_of(name)
    return body.builder.finish(title, HWPX.media_type, package.facts, notes)


def _require_plain(name: str, archive: Archive, limits: ParsingLimits) -> None:
    manifest = _Manifest()
    if _MANIFEST in archive.names:
        read_xml(name, archive.read(_MANIFEST), manifest, limits)
    if manifest.is_encrypted:
        raise DocumentError(name, "it is encrypted", hint="Save it without a password.")


class _Manifest:
    """Says which files are encrypted."""

    def __init__(self) -> None:
        self.is_encrypted = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.is_encrypted = self.is_encrypted or tag == "encryption-data"

    def end(self, tag: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class _Package:
    """Title, author and date: ``<opf:title>`` and ``<opf:meta name="creator">``."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._field = ""
        self._text: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = attributes.get("name", "")
        fields = {"creator": "author", "CreatedDate": "date"}
        self._field = "title" if tag == "title" else fields.get(name, "") if tag == "meta" else ""
        self._text = []

    def end(self, tag: str) -> None:
        value = " ".join("".join(self._text).split())[:1000]
        if self._field and value:
            self.facts[self._field] = value[:10] if self._field == "date" else value
        self._field = ""

    def text(self, text: str) -> None:
        self._text.append(text)


class _Shapes:
    """Outline levels, from 1, by the identifiers of paragraph shapes and of styles."""

    def __init__(self) -> None:
        self.by_shape: dict[str, int] = {}
        self.by_style: dict[str, int] = {}
        self._shape = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "paraPr":
            self._shape = attributes.get("id", "")
        elif tag == "heading" and attributes.get("type") == "OUTLINE":
            level = attributes.get("level", "0")
            self.by_shape[self._shape] = int(level) + 1 if level.isdecimal() else 1
        elif tag == "style":
            match = _OUTLINE_STYLE.fullmatch(attributes.get("name", "")) or _OUTLINE_STYLE.fullmatch(
                attributes.get("engName", "")
            )
            if match:
                self.by_style[attributes.get("id", "")] = int(match[1])

    def end(self, tag: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass

    def level_of(self, paragraph: Mapping[str, str]) -> int | None:
        """Of a paragraph by its attributes; None for body text."""
        by_style = self.by_style.get(paragraph.get("styleIDRef", ""))
        return by_style if by_style is not None else self.by_shape.get(paragraph.get("paraPrIDRef", ""))


class _Body:
    """Hands each paragraph to the builder when it ends; one with a table in it first what stands before that."""

    def __init__(self, builder: TextBuilder, shapes: _Shapes) -> None:
        self.builder = builder
        self.first_heading = ""
        self.n_asides = 0
        self._shapes = shapes
        self._rows = Rows(builder)
        self._paragraphs: list[tuple[int | None, list[str]]] = []
        self._aside = 0
        self._in_text = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _ASIDE or self._aside:
            self.n_asides += self._aside == 0
            self._aside += 1
        elif tag == "p":
            self._paragraphs.append((self._shapes.level_of(attributes), []))
        elif tag == "t":
            self._in_text = True
        elif tag in ("tab", "lineBreak", "nbSpace", "fwSpace") and self._paragraphs:
            self._paragraphs[-1][1].append({"tab": "\t", "lineBreak": "\n"}.get(tag, " "))
        elif tag in ("tbl", "tr", "tc"):
            if tag == "tbl" and self._paragraphs:
                self._flush()
            self._rows.start(tag)

    def end(self, tag: str) -> None:
        if self._aside:
            self._aside -= 1
        elif tag == "p" and self._paragraphs:
            self._flush()
            self._paragraphs.pop()
        elif tag == "t":
            self._in_text = False
        elif tag in ("tbl", "tr", "tc"):
            self._rows.end(tag)

    def text(self, text: str) -> None:
        if self._in_text and not self._aside and self._paragraphs:
            self._paragraphs[-1][1].append(text)

    def _flush(self) -> None:
        level, pieces = self._paragraphs[-1]
        text = "".join(pieces).strip()
        pieces.clear()
        if not text:
            return
        if self._rows.is_open:
            self._rows.add(text)
        elif level is not None:
            self.first_heading = self.first_heading or " ".join(text.split())
            self.builder.heading(level, text)
        else:
            self.builder.paragraph(text)
