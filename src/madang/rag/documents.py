"""What a file says, and the pieces of it that are found and cited. All offsets count characters of the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document under one path of headings, from the outermost; ``[start, end)`` of the document's text."""

    headings: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The text of a file, whatever its format was.

    pages    where each page begins; empty where there are none
    facts    what else is known (speakers, date, author), as JSON values
    notes    what was left out, one sentence each
    """

    title: str
    media_type: str
    text: str
    sections: tuple[Section, ...]
    pages: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``document.text[start:end] == text``, always. ``page`` counts from 1."""

    text: str
    start: int
    end: int
    headings: tuple[str, ...]
    n_tokens: int
    page: int | None = None
    speaker: str | None = None
