"""Formats that are more than text are read in a process of their own: it has limits, and it can be ended."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any, Final

from madang.core.errors import DocumentError
from madang.core.units import format_bytes
from madang.rag.documents import Document, Section
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.recognising import Format

_MODULE: Final = "madang.rag.parsing.child"
OUT_OF_MEMORY: Final = 3  # exit status


def parse_apart(found: Format, name: str, data: bytes, limits: ParsingLimits) -> Document:
    """What the format's reader makes of the bytes. Raises DocumentError, also when it dies or takes too long."""
    order = {"name": name, "module": found.module, "limits": asdict(limits)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _MODULE],
            input=json.dumps(order).encode() + b"\n" + data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limits.time_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"reading it takes longer than {limits.time_s:g} s, which is the limit"
        raise DocumentError(name, problem, hint="Split it, or save it again in a simpler form.") from None
    if done.returncode == OUT_OF_MEMORY:
        problem = f"reading it takes more than {format_bytes(limits.memory_bytes)} of memory, which is the limit"
        raise DocumentError(name, problem, hint="Split it into several files.")
    if done.returncode != 0:
        problem = f"it is damaged in a way that ends the reader of {found.name} files"
        raise DocumentError(name, problem, hint="Save it again, or as text.")
    told: dict[str, Any] = json.loads(done.stdout)
    if "problem" in told:
        raise DocumentError(name, told["problem"], hint=told["hint"])
    return document_from(told)


def document_from(told: dict[str, Any]) -> Document:
    """The document that the child wrote as JSON."""
    sections = tuple(Section(tuple(headings), start, end) for headings, start, end in told["sections"])
    return Document(
        title=told["title"],
        media_type=told["media_type"],
        text=told["text"],
        sections=sections,
        pages=tuple(told["pages"]),
        facts=told["facts"],
        notes=tuple(told["notes"]),
    )


def document_to(document: Document) -> dict[str, Any]:
    """The same as JSON values."""
    told = {name: getattr(document, name) for name in ("title", "media_type", "text", "pages", "facts", "notes")}
    return {**told, "sections": [(section.headings, section.start, section.end) for section in document.sections]}
