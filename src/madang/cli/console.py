"""What the command line prints: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress

from madang.core.errors import MadangError

# C0 and C1 controls, but for tab and newline: a model's text must not steer the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def data(text: str, end: str = "\n") -> None:
    """Print to stdout at once. On a terminal, control characters show as U+FFFD; in a pipe nothing is changed."""
    sys.stdout.write((harmless(text) if sys.stdout.isatty() else text) + end)
    sys.stdout.flush()


def data_json(value: object) -> None:
    """Print one JSON document to stdout."""
    data(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def data_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows in aligned columns, nothing cut off; ``right`` numbers the columns that align right."""
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [_padded(cell, widths[i], i in right) for i, cell in enumerate(row)]
        data("  ".join(cells).rstrip())


def note(text: str, end: str = "\n") -> None:
    """Print a line to stderr. What cannot be said, as on a full disk, stops nothing."""
    with suppress(OSError):
        print(harmless(text), file=sys.stderr, end=end, flush=True)


def dim_note(text: str, end: str = "\n") -> None:
    """Print a line to stderr, faint where the terminal can."""
    if not sys.stderr.isatty():
        note(text, end)
        return
    from rich.console import Console

    Console(stderr=True).print(harmless(text), style="dim", markup=False, highlight=False, soft_wrap=True, end=end)


def report_error(error: MadangError, as_json: bool) -> None:
    """The sentence and the next step on stderr, or, for programs, ``{"error": …}`` on stdout."""
    if as_json:
        data_json({"error": error.to_dict()})
        return
    note(f"Error: {error.message}")
    if error.hint is not None:
        note(error.hint)


def harmless(text: str) -> str:
    """``text`` without characters that a terminal would obey."""
    return _CONTROLS.sub("\ufffd", text)


def facts(values: Mapping[str, str]) -> None:
    """Print ``name  value`` lines, aligned."""
    data_table([[name, value] for name, value in values.items()])


def _cells(text: str) -> int:
    """Columns on a terminal: Korean and other wide characters take two."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _cells(text))
    return space + text if right else text + space
