"""Source code, by its definitions: the text as it is, with a section per definition that is more than a few lines.

Definitions are known by how their first line begins, which is the same in most languages; nesting by indentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Final

from madang.rag.documents import Document
from madang.rag.parsing.building import MOST_SECTIONS, clean_text, sections_of
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.markdown import lines_of

_MODIFIERS: Final = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([a-z]{1,20}\))?"
    r"|unsafe|const|override|open|sealed|data|inline|extern(?: \"C\")?|virtual|partial|declare|suspend|local) +){0,5}"
)
_KEYWORDS: Final = (
    r"class|def|func|function|fun|fn|struct|enum|union|trait|impl|interface|protocol|extension|namespace|module|mod|object"
    r"|record|type|macro_rules!|CREATE +(?:OR +REPLACE +)?(?:TABLE|VIEW|FUNCTION|PROCEDURE|INDEX|TRIGGER)"
)
_DEFINITION: Final = re.compile(
    rf"(?P<indent>[ \t]{{0,40}}){_MODIFIERS}(?P<keyword>{_KEYWORDS})\b(?P<rest>[ \t<*(][^\n]{{0,200}})?$", re.IGNORECASE
)
# int main(void) {   and   void Shape::draw() const   at the left margin, in C and what looks like it
_C_FUNCTION: Final = re.compile(r"(?![#}\s])[\w:<>,&*~\[\] \t]{1,80}[ \t*&](?P<name>[\w:~]{1,80})\([^;]{0,200}$")
_RECEIVER: Final = re.compile(r"^ *\([^)]*\)")  # of a method in Go
_NAME: Final = re.compile(r"[\w$.:~?!]+")
_LEADING: Final = re.compile(r"[ \t]*(?:#|//|/\*|\*|@|--|\[|\"\"\"|;)")
_LEAST_LINES: Final = 5  # of a definition that is a section of its own
_TAB_COLUMNS: Final = 4


def parse(name: str, text: str, media_type: str, limits: ParsingLimits, notes: Sequence[str] = ()) -> Document:
    """The text with its definitions as sections."""
    text, found_notes = clean_text(name, text, limits)
    headings = _large(text, list(islice(_definitions(text, media_type), MOST_SECTIONS)))
    return Document(
        title=PurePath(name).name,
        media_type=media_type,
        text=text,
        sections=sections_of(text, headings),
        notes=(*notes, *found_notes),
    )


def _definitions(text: str, media_type: str) -> Iterator[tuple[int, int, str]]:
    """(offset, column, "class Name") of each one; comments and decorators right above belong to it."""
    is_c = media_type in ("text/x-c", "text/x-c++")
    leading: int | None = None  # where what stands right above begins
    for offset, line in lines_of(text):
        match = _DEFINITION.match(line)
        function = _C_FUNCTION.match(line) if is_c and not match else None
        if match and (found := _NAME.search(_RECEIVER.sub("", match["rest"] or ""))):
            column = len(match["indent"].expandtabs(_TAB_COLUMNS))
            yield offset if leading is None else leading, column, f"{match['keyword'].lower()} {found[0].rstrip(':')}"
        elif function:
            yield offset if leading is None else leading, 0, function["name"]
        if not _LEADING.match(line):
            leading = None
        elif leading is None:
            leading = offset


def _large(text: str, definitions: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Those worth a section: of a row of short ones at the same column, the first stands for all."""
    ends = [*(offset for offset, _, _ in definitions), len(text)][1:]
    kept: list[tuple[int, int, str]] = []
    n_lines = _LEAST_LINES  # since the last one that was kept
    for (offset, column, title), end in zip(definitions, ends, strict=True):
        size = text.count("\n", offset, end)
        if not kept or column != kept[-1][1] or n_lines >= _LEAST_LINES or size >= _LEAST_LINES:
            kept.append((offset, column, title))
            n_lines = 0
        n_lines += size
    return kept
