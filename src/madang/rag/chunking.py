"""From a document to chunks that an embedding model can read whole, cut where the document itself has joints."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from madang.core.errors import InvalidRequest
from madang.rag.documents import Chunk, Document, Section
from madang.rag.parsing.markdown import lines_of
from madang.rag.pieces import NO_WHOLE, Boundary, Piece, cut, pieces_of, speaker_of

CountTokens = Callable[[Sequence[str]], Sequence[int]]
Span = tuple[int, int]

LEAST_BUDGET_TOKENS: Final = 16  # that a chunk has beside the tokens that the model adds to any text
_BATCH: Final = 1024  # texts whose tokens are counted in one call
# A tokenizer with a token for any unknown word finds few tokens in what no model can read: a text is bounded twice.
_MOST_CHARACTERS_PER_TOKEN: Final = 10
_MOST_PIECE_CHARACTERS_PER_TOKEN: Final = 4
_MOST_HEADING_CHARACTERS: Final = 500
_BLANK_LINES: Final = re.compile(r"(?:[ \t]*\n)*")


def split(document: Document, count_tokens: CountTokens, *, budget_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """Chunks of at most ``budget_tokens``, in order; all text but blank space is in one of them.

    ``count_tokens`` counts as the embedding model does, with the tokens that it adds to any text. A chunk is of one
    section (one that is only a heading goes with the next). Within it, cuts are made between paragraphs before lines,
    sentences and words; code in fences and turns of a speaker are not cut where they fit. ``overlap_tokens`` are said
    again at most in the next chunk of the section. The ``speaker`` of a chunk is who says more than half of it.
    Takes linear time. Raises InvalidRequest for a budget that holds nothing, or an overlap of more than half of it.
    """
    added_tokens = count_tokens([""])[0]
    room_tokens = budget_tokens - added_tokens
    if room_tokens < LEAST_BUDGET_TOKENS:
        least = LEAST_BUDGET_TOKENS + added_tokens
        raise InvalidRequest(f"A chunk has room for at least {least} tokens.", param="budget_tokens")
    if not 0 <= overlap_tokens <= room_tokens // 2:
        raise InvalidRequest(
            f"Chunks of {budget_tokens} tokens overlap by 0 to {room_tokens // 2}.", param="overlap_tokens"
        )
    sections = _with_bodies(document)
    pieces, n_tokens = _fitting(document, sections, count_tokens, budget_tokens, added_tokens)
    spans = _packed(pieces, n_tokens, room_tokens, overlap_tokens, _MOST_CHARACTERS_PER_TOKEN * budget_tokens)
    return _chunks(document, sections, list(spans), count_tokens, budget_tokens)


def _with_bodies(document: Document) -> list[Section]:
    """Sections, where one that is only a heading is part of the one below it that comes next."""
    text = document.text
    result: list[Section] = []
    start: int | None = None
    for number, section in enumerate(document.sections):
        start = section.start if start is None else start
        following = document.sections[number + 1 : number + 2]
        is_above = bool(following) and following[0].headings[: len(section.headings)] == section.headings
        size = section.end - section.start
        is_heading = size <= _MOST_HEADING_CHARACTERS and "\n" not in text[section.start : section.end].strip()
        if not (section.headings and is_above and is_heading):
            result.append(Section(section.headings, start, section.end))
            start = None
    return result


def _fitting(
    document: Document, sections: Sequence[Section], count_tokens: CountTokens, budget_tokens: int, added_tokens: int
) -> tuple[list[Piece], list[int]]:
    """Pieces of all sections, and the tokens of each, without the added ones: none has more than there is room for."""
    text = document.text
    room_tokens = budget_tokens - added_tokens
    longest = _MOST_PIECE_CHARACTERS_PER_TOKEN * budget_tokens
    waiting = [
        piece
        for section in sections
        for piece in pieces_of(document, section.start, section.end, grain=budget_tokens // 2, longest=longest)
    ]
    fitting: list[tuple[Piece, int]] = []
    while waiting:
        counts = _counted([text[piece.start : piece.end] for piece in waiting], count_tokens)
        too_long: list[Piece] = []
        for piece, count in zip(waiting, counts, strict=True):
            n_tokens, n_characters = max(count - added_tokens, 1), piece.end - piece.start
            if n_tokens <= room_tokens or n_characters == 1:
                fitting.append((piece, min(n_tokens, room_tokens)))
            else:  # somewhat less than would fit if all characters were alike
                too_long += cut(text, piece, max(n_characters * room_tokens * 3 // (n_tokens * 4), 1))
        waiting = too_long
    fitting.sort(key=lambda entry: entry[0].start)
    return [piece for piece, _ in fitting], [n_tokens for _, n_tokens in fitting]


def _counted(texts: Sequence[str], count_tokens: CountTokens) -> list[int]:
    return [count for begin in range(0, len(texts), _BATCH) for count in count_tokens(texts[begin : begin + _BATCH])]


def _packed(
    pieces: Sequence[Piece], n_tokens: Sequence[int], room_tokens: int, overlap_tokens: int, most_characters: int
) -> Iterator[Span]:
    """Spans of text, each of consecutive pieces of a section that fit."""
    until = list(accumulate(n_tokens, initial=0))
    firsts = [index for index, piece in enumerate(pieces) if piece.boundary == Boundary.SECTION]
    divides = _divides(pieces, until, room_tokens)
    for first, last in zip(firsts, [*firsts[1:], len(pieces)], strict=True):
        begin, done = first, first
        while done < last:
            limit = bisect_right(until, until[begin] + room_tokens, begin, last + 1) - 1
            while pieces[limit - 1].end - pieces[begin].start > most_characters and limit > done + 1:
                limit -= 1
            left_tokens = until[last] - until[begin]
            end = limit
            if limit < last:
                # What is left for two chunks is shared between them, so that the last one is no scrap.
                target = left_tokens // 2 if left_tokens <= 2 * room_tokens else room_tokens
                end = _best_cut(pieces, until, divides, (begin, done, limit), target)
            yield pieces[begin].start, pieces[end - 1].end
            begin = done = end
            while begin - 1 > first and until[end] - until[begin - 1] <= overlap_tokens and end < last:
                begin -= 1
            while begin < end and until[end + 1] - until[begin] > room_tokens:
                begin += 1


def _divides(pieces: Sequence[Piece], until: Sequence[int], room_tokens: int) -> list[bool]:
    """For each piece, whether a cut before it parts what belongs together and fits into a chunk."""
    divides = [False] * len(pieces)
    begin = 0
    for end in range(1, len(pieces) + 1):
        whole = pieces[begin].whole
        if end < len(pieces) and pieces[end].whole == whole and pieces[end].boundary != Boundary.SECTION:
            continue
        if whole != NO_WHOLE and until[end] - until[begin] <= room_tokens:
            divides[begin + 1 : end] = [True] * (end - begin - 1)
        begin = end
    return divides


def _best_cut(
    pieces: Sequence[Piece],
    until: Sequence[int],
    divides: Sequence[bool],
    bounds: tuple[int, int, int],
    target_tokens: int,
) -> int:
    """Where to end a chunk that begins at the first of ``bounds``: after the second, and at the third at most.

    What belongs together stays together first; then the chunk is not less than half of the target; then the boundary
    is the strongest, and of equal ones the one that is closest to the target.
    """
    begin, done, limit = bounds

    def merit(end: int) -> tuple[bool, bool, int, int, int]:
        n_tokens = until[end] - until[begin]
        is_enough = 2 * n_tokens >= target_tokens
        return not divides[end], is_enough, pieces[end].boundary, -abs(n_tokens - target_tokens), n_tokens

    return max(range(done + 1, limit + 1), key=merit)


def _chunks(
    document: Document,
    sections: Sequence[Section],
    spans: Sequence[Span],
    count_tokens: CountTokens,
    budget_tokens: int,
) -> list[Chunk]:
    """Chunks of the spans, each counted as a whole; the few that come out longer than their pieces are halved."""
    text = document.text
    counted: list[tuple[Span, int]] = []
    waiting = [span for span in (_trimmed(text, span) for span in spans) if span is not None]
    while waiting:
        counts = _counted([text[start:end] for start, end in waiting], count_tokens)
        too_long = [span for span, count in zip(waiting, counts, strict=True) if count > budget_tokens]
        counted += [(span, count) for span, count in zip(waiting, counts, strict=True) if count <= budget_tokens]
        halves = (half for start, end in too_long if end - start > 1 for half in _halves(text, start, end))
        waiting = [span for span in (_trimmed(text, half) for half in halves) if span is not None]
    starts = [section.start for section in sections]
    turns = _turns(document)
    turn_starts = [start for start, _ in turns]
    chunks = []
    for (start, end), n_tokens in sorted(counted):
        headings = sections[bisect_right(starts, start) - 1].headings
        page = bisect_right(document.pages, start) or None
        first = max(bisect_right(turn_starts, start) - 1, 0)
        speaker = _speaker(turns[first : bisect_right(turn_starts, end - 1)], start, end)
        chunks.append(Chunk(text[start:end], start, end, headings, n_tokens, page, speaker))
    return chunks


def _halves(text: str, start: int, end: int) -> list[Span]:
    piece = Piece(start, end, Boundary.WORD, NO_WHOLE)
    return [(part.start, part.end) for part in cut(text, piece, (end - start + 1) // 2)]


def _trimmed(text: str, span: Span) -> Span | None:
    """Without blank space around it, but with the indentation of its first line; None where nothing is left."""
    start, end = span
    end = start + len(text[start:end].rstrip())
    if start == 0 or text[start - 1] == "\n":
        blank = _BLANK_LINES.match(text, start, end)
        start = blank.end() if blank else start
    else:
        start = end - len(text[start:end].lstrip())
    return (start, end) if start < end else None


def _turns(document: Document) -> list[tuple[int, str]]:
    """Where each turn of a meeting begins, and whose it is."""
    speakers = frozenset(document.facts.get("speakers", ()))
    if not speakers:
        return []
    found = ((offset, speaker_of(line, speakers)) for offset, line in lines_of(document.text))
    return [(offset, speaker) for offset, speaker in found if speaker is not None]


def _speaker(turns: Sequence[tuple[int, str]], start: int, end: int) -> str | None:
    """Who says more than half of ``[start, end)``."""
    n_characters: dict[str, int] = {}
    ends = [*(begin for begin, _ in turns), end][1:]
    for (begin, speaker), after in zip(turns, ends, strict=True):
        n_characters[speaker] = n_characters.get(speaker, 0) + max(min(after, end) - max(begin, start), 0)
    most, name = max(((count, name) for name, count in n_characters.items()), default=(0, None))
    return name if 2 * most > end - start else None
