"""From a file to a document: recognise, decode, parse."""

from __future__ import annotations

import importlib
import os
import stat
from pathlib import Path

from madang.core.errors import DocumentError
from madang.core.units import format_bytes
from madang.rag.documents import Document
from madang.rag.parsing.decoding import decode
from madang.rag.parsing.isolation import parse_apart
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.recognising import Format, recognise

DEFAULT_LIMITS = ParsingLimits()


def parse_document(name: str, data: bytes | Path, *, limits: ParsingLimits = DEFAULT_LIMITS) -> Document:
    """What a file says. ``name`` is what it is called: its ending counts where the content leaves its format open.

    Raises DocumentError for a file that is empty, damaged, encrypted, past a limit, or in no format that is read.
    """
    name = "".join(character if character.isprintable() else "?" for character in name)
    if isinstance(data, Path):
        data = read_limited(name, data, limits)
    require_size(name, len(data), limits)
    if not data.strip():
        raise DocumentError(name, "it is empty")
    found = recognise(name, data)
    return parse_apart(found, name, data, limits) if found.is_apart else parse_text(found, name, data, limits)


def parse_text(found: Format, name: str, data: bytes, limits: ParsingLimits) -> Document:
    """A document of a format that is text and nothing else."""
    text, notes = decode(name, data)
    parse = importlib.import_module(f"madang.rag.parsing.{found.module}").parse
    document: Document = parse(name, text, found.media_type, limits, notes)
    return document


def read_limited(name: str, path: Path, limits: ParsingLimits) -> bytes:
    """A file's bytes, never more than one above the limit. Raises DocumentError."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentError(name, "it is a folder, a device or a pipe, not a file")
            require_size(name, status.st_size, limits)  # before anything is read
            return file.read(limits.file_bytes + 1)
    except OSError as error:
        raise DocumentError(name, (error.strerror or "the system refuses it").lower()) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its other end


def require_size(name: str, size_bytes: int, limits: ParsingLimits) -> None:
    """Raises DocumentError for more than the limit."""
    if size_bytes > limits.file_bytes:
        raise DocumentError(
            name,
            f"it has {format_bytes(size_bytes)}, and {format_bytes(limits.file_bytes)} is the limit",
            hint="Split it into smaller files.",
        )
