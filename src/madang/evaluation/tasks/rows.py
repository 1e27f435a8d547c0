"""Rows of data in the forms that benchmarks are published in: JSONL, JSON, CSV and TSV, maybe gzipped, and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes
from madang.evaluation.tasks.task import Row

MOST_BYTES: Final = 1 << 30  # of the text, unpacked
MOST_ROWS: Final = 200_000


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of a file, by its ending. Raises InvalidRequest with the number of a line that cannot be read.

    ``columns`` are those of CSV files whose first line does not name them.
    """
    name = path.name.removesuffix(".gz")
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise InvalidRequest(f"{path} has no ending that is read here.", param="data", hint=f"Known: {known}, and .gz.")
    try:
        rows = list(_headless(path, columns) if columns and name.endswith(".csv") else reader(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", param="data") from error
    if not 0 < len(rows) <= MOST_ROWS:
        raise InvalidRequest(f"{path} has {len(rows)} rows, but 1 to {MOST_ROWS} are needed.", param="data")
    return rows


def field_of(row: Row, *names: str) -> Any:
    """The first of these columns that there is; releases of one benchmark name them differently.

    Raises InvalidRequest.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise InvalidRequest(
        f"A row has no '{names[0]}'; it has {', '.join(map(str, row))}.",
        param="data",
        hint=f"This task reads {' or '.join(names)}.",
    )


def text_of(row: Row, *names: str) -> str:
    """The same as text."""
    return str(field_of(row, *names))


def index_of(row: Row, *names: str, n: int, first: int = 0) -> int:
    """The number of the right choice, from 0 to below ``n``; in the data they begin at ``first``, or are letters.

    Raises InvalidRequest.
    """
    value = field_of(row, *names)
    text = str(value).strip().strip("()").upper()
    index = int(text) - first if text.isdecimal() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ".find(text or "?")
    if not 0 <= index < n:
        raise InvalidRequest(f"'{value}' names none of {n} choices.", param="data")
    return index


def _text(path: Path) -> str:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {format_bytes(MOST_BYTES)}, which is the limit.", param="data")
    return data.decode("utf-8-sig")


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(_text(path)), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                raise _bad(path, f"line {number} is not JSON") from None
            yield _object(path, f"line {number}", row)


def _json(path: Path) -> Iterator[Row]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise _bad(path, f"it is not JSON ({error})") from None
    rows = found
    if isinstance(found, dict):  # as SQuAD and TriviaQA have them
        rows = found.get("data", found.get("Data"))
    if not isinstance(rows, list):
        raise _bad(path, "it is neither a list nor an object with 'data'")
    for number, row in enumerate(rows, start=1):
        yield _object(path, f"entry {number}", row)


def _headless(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    lines = list(csv.reader(io.StringIO(_text(path), newline="")))
    if lines and columns[0] in lines[0]:
        yield from _table(",")(path)
        return
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(columns):
            raise _bad(path, f"line {number} has {len(cells)} cells, but {len(columns)} are needed")
        yield dict(zip(columns, cells, strict=True))


def _table(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise _bad(path, f"line {reader.line_num} has another number of cells than the first")
                yield row
        except csv.Error as error:
            raise _bad(path, f"line {reader.line_num}: {error}") from None

    return read


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise InvalidRequest(
            f"{path} is a Parquet file, which needs the package pyarrow, which is not installed.",
            param="data",
            hint="Install it with: pip install madang[eval]",
        ) from None
    try:
        yield from parquet.read_table(path).to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's errors are among these
        raise _bad(path, str(error)) from None


def _object(path: Path, where: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise _bad(path, f"{where} is not an object")
    return row


def _bad(path: Path, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{path} cannot be read: {problem}.", param="data")


_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet,
}


def take_shots(rows: Sequence[Row], n_shots: int) -> tuple[tuple[Row, ...], Sequence[Row]]:
    """The first rows as solved examples, and the others. Raises InvalidRequest when none would be left."""
    if n_shots >= len(rows):
        raise InvalidRequest(f"{n_shots} examples were asked for, but there are {len(rows)} rows.", param="shots")
    return tuple(rows[:n_shots]), rows[n_shots:]
