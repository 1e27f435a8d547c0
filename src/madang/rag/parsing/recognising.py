"""Which format a file has: what its bytes say counts first, what it is called second.

To add one: a module beside this file with ``parse``, and a row in FORMATS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from madang.core.errors import DocumentError
from madang.rag.parsing.decoding import READABLE


@dataclass(frozen=True, slots=True)
class Format:
    """One row. ``module`` has ``parse(name, data, limits)``, where data is text unless ``is_apart``.

    is_apart   more than text: it is read from bytes, in a process of its own
    """

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    module: str
    is_apart: bool = False


_WORD: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

PDF: Final = Format("PDF", "application/pdf", (".pdf",), "pdf", is_apart=True)
DOCX: Final = Format("DOCX", _WORD, (".docx",), "docx", is_apart=True)
HWPX: Final = Format("HWPX", "application/hwp+zip", (".hwpx",), "hwpx", is_apart=True)
HTML: Final = Format("HTML", "text/html", (".html", ".htm", ".xhtml"), "html", is_apart=True)
MARKDOWN: Final = Format("Markdown", "text/markdown", (".md", ".markdown", ".mdx"), "markdown")
WEBVTT: Final = Format("WebVTT", "text/vtt", (".vtt",), "subtitles")
SUBRIP: Final = Format("SRT", "application/x-subrip", (".srt",), "subtitles")
TABLE: Final = Format("CSV", "text/csv", (".csv",), "tables")
TABBED: Final = Format("TSV", "text/tab-separated-values", (".tsv", ".tab"), "tables")
JSON: Final = Format("JSON", "application/json", (".json", ".jsonl", ".ndjson"), "meetings")
TEXT: Final = Format("text", "text/plain", (".txt", ".text", ".log", ".rst", ".tex", ".org", ".adoc", ""), "text")
CODE: Final = tuple(
    Format(f"{language} code", f"text/x-{language}", suffixes, "code")
    for language, suffixes in {
        "python": (".py", ".pyi"),
        "javascript": (".js", ".mjs", ".cjs", ".jsx"),
        "typescript": (".ts", ".tsx"),
        "rust": (".rs",),
        "go": (".go",),
        "java": (".java",),
        "kotlin": (".kt", ".kts"),
        "swift": (".swift",),
        "scala": (".scala",),
        "csharp": (".cs",),
        "c": (".c", ".h"),
        "c++": (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".inl"),
        "php": (".php",),
        "ruby": (".rb",),
        "lua": (".lua",),
        "shell": (".sh", ".bash", ".zsh"),
        "sql": (".sql",),
        "css": (".css",),
        "yaml": (".yaml", ".yml"),
        "toml": (".toml",),
        "ini": (".ini", ".cfg"),
        "xml": (".xml",),
    }.items()
)
FORMATS: Final = (PDF, DOCX, HWPX, HTML, MARKDOWN, WEBVTT, SUBRIP, TABLE, TABBED, JSON, TEXT, *CODE)
BY_SUFFIX: Final[Mapping[str, Format]] = {suffix: row for row in FORMATS for suffix in row.suffixes}
SUFFIXES: Final = frozenset(BY_SUFFIX)

_HEAD_BYTES: Final = 1024
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML_BEGIN: Final = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)\b", re.I | re.S
)


def recognise(name: str, data: bytes) -> Format:
    """The format of a file. Raises DocumentError for what is known and not read, or not what its name says."""
    head = data[:_HEAD_BYTES]
    named = BY_SUFFIX.get(PurePath(name).suffix.lower(), TEXT)
    if b"%PDF-" in head:
        return PDF
    if head.startswith(_ZIP):
        return _zipped(name, data)
    if head.startswith(_COMPOUND):
        raise _compound(name, data)
    if head.startswith(b"{\\rtf"):
        raise DocumentError(name, "it is in RTF, which madang does not read", hint="Save it as DOCX.")
    unmarked = head.removeprefix(b"\xef\xbb\xbf")
    if _HTML_BEGIN.match(unmarked):
        return HTML
    if re.match(rb"WEBVTT(?:\s|$)", unmarked):
        return WEBVTT
    if named in (PDF, DOCX, HWPX) and data:
        raise DocumentError(
            name, f"it is damaged, or no {named.name} file: it does not begin like one", hint="Save it again."
        )
    return named


def _zipped(name: str, data: bytes) -> Format:
    # Names of entries stand in the file as they are; which of them there are is for the format's reader to check.
    if b"application/hwp+zip" in data[:_HEAD_BYTES] or b"Contents/section0.xml" in data:
        return HWPX
    if b"word/document.xml" in data or name.lower().endswith(".docx"):
        return DOCX
    if name.lower().endswith(".hwpx"):
        return HWPX
    raise DocumentError(name, "it is an archive or a format that madang does not read", hint=READABLE)


def _compound(name: str, data: bytes) -> DocumentError:
    """Word 97 and old HWP files, and Office files with a password, share a container."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return DocumentError(name, "it is encrypted", hint="Save it without a password.")
    if b"HWP Document File" in data:
        return DocumentError(name, "it is in the older HWP format", hint="Save it as HWPX.")
    return DocumentError(name, "it is in an older format of Office", hint="Save it as DOCX or PDF.")
