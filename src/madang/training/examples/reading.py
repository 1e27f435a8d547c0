"""From a file or a dataset of the hub to examples, one at a time, each with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, cast

from madang.core.errors import EngineUnavailable, InvalidRequest
from madang.core.units import format_bytes
from madang.training.examples.example import Example, Loaded, Problem
from madang.training.examples.forms import Unusable, check_form, example_of, form_of
from madang.training.examples.hub import is_hub_name, read_hub

MOST_LINE_BYTES: Final = 16 << 20
MOST_JSON_BYTES: Final = 1 << 30  # a JSON list is read whole; JSON lines have no limit
_LOOKED_AT: Final = 100  # rows in which a form may show
_PARQUET_ROWS: Final = 1000  # in memory at a time

Row: TypeAlias = tuple[int, Any]
Rows: TypeAlias = Iterator[Row | Problem]


class ExampleSource:
    """A file or dataset; each iteration reads it again, so it may be larger than memory."""

    def __init__(self, name: str, form: str, rows: Callable[[], Rows]) -> None:
        self.name = name
        self.form = form
        self._rows = rows

    def __iter__(self) -> Iterator[Example | Problem]:
        for row in self._rows():
            yield row if isinstance(row, Problem) else self._example(*row)

    def _example(self, line: int, row: Any) -> Example | Problem:
        try:
            example = example_of(row, self.form)
        except Unusable as reason:
            return Problem(line, str(reason))
        return with_origin(example, row, self.name, line)


def open_examples(path_or_name: str | Path, form: str | None = None, *, otherwise: str | None = None) -> ExampleSource:
    """A file (.jsonl, .json, .csv, .tsv, .txt, .md, each perhaps .gz; .parquet), or a dataset of the hub (hub.py).

    form        one of forms.FORMS; None finds out from the first rows
    otherwise   forms.FIELDS takes all texts of a row, for what is compared and not learnt; turns stay turns

    Raises InvalidRequest for what does not exist or is in no known form, UnknownOption for ``form``,
    EngineUnavailable and NetworkUnavailable for datasets of the hub.
    """
    if form is not None:
        check_form(form)
    name = str(path_or_name)
    if is_hub_name(name):
        return _opened(name, form, otherwise, lambda: read_hub(name))
    path = Path(path_or_name)
    reader = _reader(path)
    return _opened(path.name, form, otherwise, lambda: reader(path))


def load_examples(path_or_name: str | Path, *, form: str | None = None) -> Loaded:
    """The same, whole: every example, and a problem for every row that is none. Raises as :func:`open_examples`."""
    source = open_examples(path_or_name, form)
    examples: list[Example] = []
    problems: list[Problem] = []
    for row in source:
        if isinstance(row, Problem):
            problems.append(row)
        else:
            examples.append(row)
    return Loaded(examples, problems, source.form)


def _opened(name: str, form: str | None, otherwise: str | None, rows: Callable[[], Rows]) -> ExampleSource:
    if form is None:
        first: Any = None
        for _, row in zip(range(_LOOKED_AT), rows(), strict=False):
            if not isinstance(row, Problem) and isinstance(row[1], Mapping):
                first = row[1]
                break
        else:
            raise InvalidRequest(f"{name} has no row that can be read.", param="data", hint=_first_problem(rows))
        form = form_of(first, name, otherwise)
    return ExampleSource(name, form, rows)


def _first_problem(rows: Callable[[], Rows]) -> str:
    found = next(iter(rows()), None)
    return f"Line {found.line}: {found.sentence}." if isinstance(found, Problem) else "It is empty, or holds no rows."


def with_origin(example: Example, row: Mapping[str, Any], source: str, line: int) -> Example:
    """The example with where it came from: a row that was written by us says it, all others are from here."""
    stated = row.get("source"), row.get("line")
    if isinstance(stated[0], str) and isinstance(stated[1], int):
        source, line = stated[0], stated[1]
    provenance = row.get("provenance")
    return replace(example, source=source, line=line, provenance=provenance if isinstance(provenance, dict) else {})


def _reader(path: Path) -> Callable[[Path], Rows]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    if not path.is_file():
        raise InvalidRequest(
            f"There is no file {path}.", param="data", hint="A dataset of the hub is written hf:owner/name."
        )
    if ending not in _READERS:
        raise InvalidRequest(
            f"{path.name} is no kind of file that madang trains on.",
            param="data",
            hint=f"Kinds are {', '.join(_READERS)}, those of text perhaps with .gz behind it.",
        )
    return _READERS[ending]


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines with their numbers; None for one that is not UTF-8 or is too long to be one."""
    try:
        with _open(path) as file:
            number = 0
            while raw := file.readline(MOST_LINE_BYTES):
                number += 1
                is_whole = raw.endswith(b"\n") or len(raw) < MOST_LINE_BYTES
                while not (raw.endswith(b"\n") or len(raw) < MOST_LINE_BYTES):
                    raw = file.readline(MOST_LINE_BYTES)
                yield number, _decoded(raw, number) if is_whole else None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{path} cannot be read: {reason}.", param="data") from error


def _decoded(raw: bytes, number: int) -> str | None:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        return None


_NO_LINE: Final = (
    f"it is not UTF-8, or longer than {format_bytes(MOST_LINE_BYTES)}; a file of Korean Windows is turned into UTF-8"
    " with: iconv -f cp949 -t utf-8"
)


def _json_lines(path: Path) -> Rows:
    for number, line in _lines(path):
        if line is None:
            yield Problem(number, _NO_LINE)
        elif line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Problem(number, f"it is not JSON ({_json_reason(error)})")


def _json_reason(error: Exception) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it nests too deeply"


def _json_list(path: Path) -> Rows:
    """A list of rows; a file with one object per line is read as lines, whatever it is called."""
    with _open(path) as file:
        raw = file.read(MOST_JSON_BYTES + 1)
    if not raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from _json_lines(path)
        return
    if len(raw) > MOST_JSON_BYTES:
        raise InvalidRequest(
            f"{path.name} has more than {format_bytes(MOST_JSON_BYTES)} of JSON.", param="data", hint="Use JSON lines."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield Problem(1, "the file is not UTF-8")
        return
    yield from _list_items(text)


def _list_items(text: str) -> Rows:
    decoder, space = json.JSONDecoder(), " \t\r\n"
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        while at < len(text) and text[at] in space + ",":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if at < len(text) and text[at] == "]":
            return
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield Problem(line, f"it is not JSON ({_json_reason(error)}), and nothing after it was read")
            return
        yield line, row


def _table(delimiter: str) -> Callable[[Path], Rows]:
    def rows(path: Path) -> Rows:
        bad: list[int] = []

        def texts() -> Iterator[str]:
            for number, line in _lines(path):
                if line is None:
                    bad.append(number)
                yield line if line is not None else "\n"

        reader = csv.reader(texts(), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Problem(line, f"it is no row of the table ({error})")
                continue
            yield from (Problem(number, _NO_LINE) for number in bad)
            bad.clear()
            if cells is None:
                return
            if not any(cells):
                continue
            if header is None:
                header = cells
            elif len(cells) != len(header):
                yield Problem(line, f"it has {len(cells)} columns, but the header has {len(header)}")
            else:
                yield line, dict(zip(header, cells, strict=True))

    return rows


def _paragraphs(path: Path) -> Rows:
    """Paragraphs of a plain text: what stands between empty lines."""
    kept = io.StringIO()
    begin = 0
    for number, line in _lines(path):
        if line is None:
            yield Problem(number, _NO_LINE)
        elif line.strip():
            begin = begin or number
            kept.write(line)
        elif begin:
            yield begin, {"text": kept.getvalue().rstrip("\r\n")}
            kept, begin = io.StringIO(), 0
    if begin:
        yield begin, {"text": kept.getvalue().rstrip("\r\n")}


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise EngineUnavailable(
            f"{path.name} is a Parquet file, which needs the package pyarrow.",
            hint="Install it with: pip install 'madang[train]'",
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ValueError, OSError) as error:  # pyarrow's errors are among these
        raise InvalidRequest(f"{path} cannot be read: {error}.", param="data") from error


_READERS: Final[Mapping[str, Callable[[Path], Rows]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".txt": _paragraphs,
    ".md": _paragraphs,
    ".parquet": _parquet,
}
