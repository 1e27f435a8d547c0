"""XML from strangers, as a stream: no document types, so no entities; bounded nesting; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol
from xml.parsers import expat

from madang.core.errors import DocumentError
from madang.rag.parsing.limits import ParsingLimits


class Reader(Protocol):
    """Takes what is found. Names are local: of ``w:p``, ``p``."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """It ends."""

    def text(self, text: str) -> None:
        """Characters, not all at once."""


def read_xml(name: str, pieces: Iterable[bytes], reader: Reader, limits: ParsingLimits) -> None:
    """Give all of it to the reader. Raises DocumentError for what is damaged, too deep, or has a document type."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > limits.nesting:
            raise DocumentError(name, f"it is nested deeper than {limits.nesting:,} elements, which is the limit")
        reader.start(_local(tag), {_local(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(_local(tag))

    def refuse(*_: object) -> None:
        raise DocumentError(name, "it declares a document type, which such files never do")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = refuse
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DocumentError(name, f"it is damaged: {error}", hint="Save it again.") from error


def _local(name: str) -> str:
    return name.rpartition(":")[2]
