"""CSV and TSV: a line per row, each value after the name of its column, so that a row says what it means by itself."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document
from madang.rag.parsing.building import TextBuilder, require_characters, title_of
from madang.rag.parsing.cleaning import clean
from madang.rag.parsing.limits import ParsingLimits

_DELIMITERS: Final = "\t;|,"  # where there is as much of each, a comma may stand in a number
_SAMPLE_CHARACTERS: Final = 10_000
_SAMPLE_LINES: Final = 20
_MOST_COLUMNS_TOLD: Final = 1000


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """``column: value | column: value`` for each row; empty values are left out."""
    text, _ = clean(text)
    require_characters(name, len(text), limits)
    delimiter = "\t" if media_type == "text/tab-separated-values" else _delimiter(text)
    rows = _rows(name, text, delimiter)
    first, second = next(rows, []), next(rows, [])
    has_header = bool(second) and _is_header(first, second)
    columns = [cell.strip() for cell in first] if has_header else []
    builder = TextBuilder(name, limits)
    n_rows = 0
    for row in chain(() if has_header else (first,), (second,) if second else (), rows):
        builder.line(_record(columns, row))
        n_rows += 1
    facts = {"n_rows": n_rows, **({"columns": columns} if 0 < len(columns) <= _MOST_COLUMNS_TOLD else {})}
    return builder.finish(title_of(name), media_type, facts, notes)


def _rows(name: str, text: str, delimiter: str) -> Iterator[list[str]]:
    lines = (line + "\n" for line in text.split("\n"))  # str.splitlines would split at more than line ends
    try:
        yield from (row for row in csv.reader(lines, delimiter=delimiter) if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise DocumentError(
            name, f"it is no table that can be read: {error}", hint="A quote may be open; or name it .txt."
        ) from error


def _record(columns: Sequence[str], row: Sequence[str]) -> str:
    cells = []
    for position, value in enumerate(row):
        if value.strip():
            column = columns[position] if position < len(columns) else f"column {position + 1}"
            cells.append(f"{column}: {' '.join(value.split())}")
    return " | ".join(cells)


def _is_header(cells: Sequence[str], values: Sequence[str]) -> bool:
    """Whether these are names of columns: all there, all different, and numbers only where values are more so."""
    names = [cell.strip() for cell in cells]
    if not all(names) or len(set(names)) < len(names):
        return False
    are_numbers = [_is_number(name) for name in names]
    more = any(_is_number(value) and not is_number for value, is_number in zip(values, are_numbers, strict=False))
    return more or not any(are_numbers)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _delimiter(text: str) -> str:
    """The one of which the first lines have most, and the same number."""
    lines = [line for line in text[:_SAMPLE_CHARACTERS].split("\n")[:_SAMPLE_LINES] if line.strip()]
    counts = {delimiter: [line.count(delimiter) for line in lines] for delimiter in _DELIMITERS}
    return max(_DELIMITERS, key=lambda delimiter: (min(counts[delimiter]) > 0, counts[delimiter][0]))
