"""Documents put together piece by piece, with the offsets of their sections and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any, Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document, Section
from madang.rag.parsing.cleaning import REPLACEMENT, clean
from madang.rag.parsing.limits import ParsingLimits

MOST_SECTIONS: Final = 100_000
_MOST_HEADING_CHARACTERS: Final = 200


class TextBuilder:
    """Takes text in reading order. Raises DocumentError as soon as there is more of it than the limit."""

    def __init__(self, name: str, limits: ParsingLimits) -> None:
        self._name = name
        self._limits = limits
        self._parts: list[str] = []
        self._end = ""  # the last two characters
        self._headings: list[tuple[int, int, str]] = []
        self.pages: list[int] = []
        self._n_unreadable = 0
        self.n_characters = 0

    def add(self, text: str) -> None:
        """Append it as it is."""
        text, n_unreadable = clean(text)
        self._n_unreadable += n_unreadable
        self.n_characters += len(text)
        require_characters(self._name, self.n_characters, self._limits)
        self._parts.append(text)
        self._end = (self._end + text)[-2:]

    def paragraph(self, text: str) -> None:
        """Append it with an empty line before it; nothing when it is blank."""
        if text.strip():
            self._separate(2)
            self.add(text.strip("\n"))

    def line(self, text: str) -> None:
        """Append it as the next line; nothing when it is blank."""
        if text.strip():
            self._separate(1)
            self.add(text.strip("\n"))

    def heading(self, level: int, title: str) -> None:
        """Begin a section below the last heading of a lower level; the heading is part of its text."""
        title = " ".join(title.split())
        if title:
            self._separate(2)
            self._headings.append((self.n_characters, level, title))
            self.add(title)

    def page(self) -> None:
        """Begin a page."""
        self._separate(2)
        self.pages.append(self.n_characters)

    def mark_heading(self, offset: int, level: int, title: str) -> None:
        """Begin a section at text that is there already."""
        self._headings.append((offset, level, title))

    def finish(
        self, title: str, media_type: str, facts: Mapping[str, Any] | None = None, notes: Sequence[str] = ()
    ) -> Document:
        """The document. Raises DocumentError when there is no text in it."""
        text = "".join(self._parts)
        return finished(
            self._name,
            Document(
                title=shortened(title),
                media_type=media_type,
                text=text,
                sections=sections_of(text, self._headings),
                pages=tuple(self.pages),
                facts=facts or {},
                notes=(*notes, *_about_unreadable(self._n_unreadable)),
            ),
        )

    def _separate(self, n_line_ends: int) -> None:
        if self.n_characters:
            have = len(self._end) - len(self._end.rstrip("\n"))
            self.add("\n" * max(n_line_ends - have, 0))


def clean_text(name: str, text: str, limits: ParsingLimits) -> tuple[str, tuple[str, ...]]:
    """A whole text in readable characters, and notes. Raises DocumentError when it is blank or too long."""
    text, n_unreadable = clean(text)
    require_characters(name, len(text), limits)
    if not text.strip(" \t\n" + REPLACEMENT):
        raise _empty(name)
    return text, _about_unreadable(n_unreadable)


def require_characters(name: str, n_characters: int, limits: ParsingLimits) -> None:
    """Raises DocumentError for more than the limit."""
    if n_characters > limits.characters:
        problem = f"its text has more than {limits.characters:,} characters, which is the limit"
        raise DocumentError(name, problem, hint="Split it into several files.")


def finished(name: str, document: Document) -> Document:
    """The document itself. Raises DocumentError when there is no text in it."""
    if not document.text.strip(" \t\n" + REPLACEMENT):
        raise _empty(name)
    return document


def sections_of(text: str, headings: Iterable[tuple[int, int, str]], begin: int = 0) -> tuple[Section, ...]:
    """Sections from (offset, level, title) in order; what stands before the first one has no headings.

    After MOST_SECTIONS, headings are text like any other.
    """
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    for offset, level, title in islice(headings, MOST_SECTIONS):
        if text[begin:offset].strip():
            sections.append(Section(tuple(title for _, title in path), begin, offset))
        begin = offset
        path = [*(entry for entry in path if entry[0] < level), (level, shortened(title))]
    if text[begin:].strip():
        sections.append(Section(tuple(title for _, title in path), begin, len(text)))
    return tuple(sections)


def title_of(name: str) -> str:
    """What a document is called that does not say it: the name of its file, without the ending."""
    return PurePath(name).stem or name


def shortened(title: str) -> str:
    """A title or heading as it is shown: one that is too long ends with an ellipsis."""
    return title if len(title) <= _MOST_HEADING_CHARACTERS else title[: _MOST_HEADING_CHARACTERS - 1] + "…"


def _about_unreadable(n_unreadable: int) -> tuple[str, ...]:
    if not n_unreadable:
        return ()
    return (f"Characters that cannot be read, replaced by '{REPLACEMENT}': {n_unreadable:,}.",)


def _empty(name: str) -> DocumentError:
    return DocumentError(name, "there is no text in it")
