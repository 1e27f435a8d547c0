"""Where a text may be cut, and how well: paragraphs before lines, lines before sentences, sentences before words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from madang.rag.documents import Document
from madang.rag.parsing.markdown import FENCE, closes, lines_of

_SENTENCE_END: Final = re.compile(
    r"(?<![.!?…])[.!?…]+[\"'”’)\]»」』*_]*(?=\s)"  # as English and Korean end them, before a space
    r"|(?<=[가-힣])[.!?]+(?=[가-힣])"  # and Korean without one
    r"|[。!?]+[”’」』)]*"
)
_ABBREVIATION: Final = re.compile(
    r"\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|cf|[Ff]ig|[Nn]o|al|Inc|Ltd|Co|Jr|Sr)\.$"
)
_ABBREVIATION_CHARACTERS: Final = 12
_NUMBER_OF_ITEM: Final = re.compile(r"\s*\d{1,3}\.")
_ITEM: Final = re.compile(r"[ \t]*(?:\||[-*+•·○▪] |\d{1,3}[.)] |[가-힣]\. |\([0-9가-힣]\) )")
_MOST_CLUSTER_CHARACTERS: Final = 8
_FENCED: Final = ("text/markdown", "text/html")
_TABLES: Final = ("text/csv", "text/tab-separated-values")
_MOST_NAME_CHARACTERS: Final = 70
_CONTINUES: Final = re.compile("[\u0300-\u036f\u1160-\u11ff\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")


NO_WHOLE: Final = 0


class Boundary(IntEnum):
    """What a piece begins: the higher, the better a place to cut before it."""

    CHARACTER = 0
    WORD = 1
    WRAPPED_LINE = 2
    SENTENCE = 3
    LINE = 4
    PARAGRAPH = 5
    SECTION = 6


@dataclass(slots=True)
class Piece:
    """``[start, end)`` of a text. Pieces that share a ``whole`` (code in a fence, a speaker's turn) belong together."""

    start: int
    end: int
    boundary: Boundary
    whole: int


def pieces_of(document: Document, start: int, end: int, *, grain: int, longest: int) -> list[Piece]:
    """Pieces that cover all of ``[start, end)`` but blank space.

    Parts of a paragraph are joined up to ``grain`` characters, and no piece is longer than ``longest``.
    """
    pieces: list[Piece] = []
    for piece in _Scanner(document, grain).parts(start, end):
        last = pieces[-1] if pieces else None
        if (
            last is not None
            and piece.boundary < Boundary.PARAGRAPH
            and piece.whole == last.whole
            and piece.end - last.start <= grain
        ):
            last.end = piece.end
        else:
            pieces.append(piece)
    return [part for piece in pieces for part in cut(document.text, piece, longest)]


def cut(text: str, piece: Piece, longest: int) -> Iterator[Piece]:
    """The piece in parts of at most ``longest`` characters: between words where that wastes less than half of one."""
    start, boundary = piece.start, piece.boundary
    while piece.end - start > longest:
        end = 1 + max(text.rfind(space, start + longest // 2, start + longest) for space in " \n\t")
        kind = Boundary.WORD
        if not end:
            end, kind = start + longest, Boundary.CHARACTER
            while end > start + max(longest - _MOST_CLUSTER_CHARACTERS, 1) and _CONTINUES.match(text, end):
                end -= 1
        yield Piece(start, end, boundary, piece.whole)
        start, boundary = end, kind
    yield Piece(start, piece.end, boundary, piece.whole)


def speaker_of(line: str, speakers: Collection[str]) -> str | None:
    """Who says a line of a meeting; None for one that begins no turn."""
    name, colon, _ = line[:_MOST_NAME_CHARACTERS].partition(":")
    return name if colon and name in speakers else None


class _Scanner:
    """Goes over lines, and knows in which fence or turn it is."""

    def __init__(self, document: Document, grain: int) -> None:
        self._text = document.text
        self._speakers = frozenset(document.facts.get("speakers", ()))
        self._has_fences = document.media_type in _FENCED
        self._is_code = document.media_type.startswith("text/x-")
        self._is_linewise = self._is_code or document.media_type in _TABLES
        self._long_turn = 4 * grain
        self._was_long = False
        self._fence = ""
        self._whole = NO_WHOLE
        self._n_wholes = NO_WHOLE

    def parts(self, start: int, end: int) -> Iterator[Piece]:
        """Sentences, or lines where there are none; blank lines are left out."""
        boundary = Boundary.SECTION
        for offset, line in lines_of(self._text, start, end):
            if not line.strip():
                boundary = max(boundary, Boundary.PARAGRAPH)
                continue
            is_code = bool(self._fence) or self._is_code
            boundary = max(boundary, self._enter(line))
            piece = Piece(offset, offset + len(line), boundary, self._whole)
            yield from (piece,) if is_code else _sentences(self._text, piece)
            boundary = self._leave(line) if is_code else _after(line)

    def _enter(self, line: str) -> Boundary:
        """Take note of what the line begins, and say how well a text can be cut before it."""
        if self._fence or self._is_linewise:
            return Boundary.LINE
        opened = FENCE.match(line) if self._has_fences else None
        if opened:
            self._fence = opened["fence"]
        elif speaker_of(line, self._speakers) is None:
            return Boundary.LINE if _ITEM.match(line) else Boundary.CHARACTER
        self._n_wholes += 1
        self._whole = self._n_wholes
        # A long turn has chunks of its own, so that it is found as what its speaker said.
        is_long = len(line) >= self._long_turn
        is_apart = bool(opened) or is_long or self._was_long
        self._was_long = is_long
        return Boundary.PARAGRAPH if is_apart else Boundary.LINE

    def _leave(self, line: str) -> Boundary:
        if self._fence and closes(line, self._fence):
            self._fence, self._whole = "", NO_WHOLE
            return Boundary.PARAGRAPH
        return Boundary.LINE


def _after(line: str) -> Boundary:
    return Boundary.SENTENCE if _SENTENCE_END.search(f"{line[-_ABBREVIATION_CHARACTERS:]} ") else Boundary.WRAPPED_LINE


def _sentences(text: str, line: Piece) -> Iterator[Piece]:
    start, boundary = line.start, line.boundary
    for match in _SENTENCE_END.finditer(text, line.start, line.end):
        end = match.end()
        is_inside = _ABBREVIATION.search(text, max(start, end - _ABBREVIATION_CHARACTERS), end)
        if not is_inside and not _NUMBER_OF_ITEM.fullmatch(text, start, end):
            yield Piece(start, end, boundary, line.whole)
            start, boundary = end, Boundary.SENTENCE
    if text[start : line.end].strip():
        yield Piece(start, line.end, boundary, line.whole)
