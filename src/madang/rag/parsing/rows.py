"""Tables of DOCX and HWPX: a line per row, ``|`` between cells; a table inside a cell is part of its text."""

from __future__ import annotations

from madang.rag.parsing.building import TextBuilder


class Rows:
    """Told of tables (``tbl``), rows (``tr``) and cells (``tc``), it writes each row of an outer table when it ends."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._depth = 0
        self._cells: list[list[str]] = []
        self._is_first = False

    @property
    def is_open(self) -> bool:
        """Whether text belongs to a cell now."""
        return self._depth > 0 and bool(self._cells)

    def start(self, tag: str) -> None:
        """An element begins."""
        if tag == "tbl":
            self._depth += 1
            self._is_first = self._is_first or self._depth == 1
        elif tag == "tc" and self._depth == 1:
            self._cells.append([])

    def add(self, text: str) -> None:
        """Text of the cell."""
        self._cells[-1].append(" ".join(text.split()))

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == "tbl":
            self._depth -= 1
        elif tag == "tr" and self._depth == 1:
            row = " | ".join(" ".join(cell) for cell in self._cells)
            self._cells.clear()
            if row.strip(" |"):
                (self._builder.paragraph if self._is_first else self._builder.line)(row)
                self._is_first = False
