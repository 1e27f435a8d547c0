"""The table of formats, and the page that tells users of it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from madang.core.units import format_bytes
from madang.rag.parsing import SUFFIXES, ParsingLimits, parse_document
from madang.rag.parsing.recognising import FORMATS, Format

PAGE = Path(__file__).parents[3].joinpath("docs", "how-to", "documents.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_each_format_has_a_reader(row: Format) -> None:
    assert callable(importlib.import_module(f"madang.rag.parsing.{row.module}").parse)


def test_each_ending_is_documented() -> None:
    assert {suffix for suffix in SUFFIXES if suffix and f"`{suffix}`" not in PAGE} == set()
    assert sum(len(row.suffixes) for row in FORMATS) == len(SUFFIXES)  # none has two formats


def test_each_limit_is_documented() -> None:
    limits = ParsingLimits()
    for told in (
        *(f"{format_bytes(limits.file_bytes)} |", f"{limits.characters:,} characters", f"| {limits.pages:,} |"),
        *(f"{limits.zip_entries:,} and {format_bytes(limits.expanded_bytes)}", f"| {limits.nesting:,} |"),
        f"{limits.time_s:g} s and {format_bytes(limits.memory_bytes)}",
    ):
        assert told in PAGE


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("notes", b"text", "text/plain"),
        ("Makefile", b"all:\n\tmake", "text/plain"),
        ("NOTES.MD", b"# Title", "text/markdown"),
        ("a.unknown", b"text", "text/plain"),
        ("script.py", b"<html><body>no code", "text/html"),
        ("a.md", b"<p>inline HTML is Markdown</p>", "text/markdown"),
    ],
)
def test_content_counts_first_and_names_second(name: str, data: bytes, media_type: str) -> None:
    assert parse_document(name, data).media_type == media_type
