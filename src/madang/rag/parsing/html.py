"""HTML: what a reader sees, with headings, lists, tables and preformatted text.

A stream of tags is enough for that, so nesting costs nothing. Nothing is fetched and nothing is run.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, Final

from madang.rag.documents import Document
from madang.rag.parsing.building import TextBuilder, title_of
from madang.rag.parsing.decoding import decode
from madang.rag.parsing.limits import ParsingLimits

_DROPPED: Final = frozenset(
    (
        *("script", "style", "template", "noscript", "svg", "math", "canvas", "audio", "video", "iframe", "object"),
        *("nav", "button", "select", "dialog"),
    )
)
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
_BLOCKS: Final = frozenset(
    (
        *(
            "html",
            "body",
            "address",
            "article",
            "aside",
            "blockquote",
            "center",
            "details",
            "div",
            "fieldset",
            "figure",
        ),
        *("figcaption", "footer", "form", "header", "hr", "main", "p", "section", "summary", "ul", "ol", "li", "dl"),
        *("dt", "dd", "table", "tbody", "thead", "tfoot", "tr", "h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_CHARSET: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})""", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden", re.IGNORECASE)
_ENCODINGS: Final = {
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "cp949", "ms949", "windows-949"), "cp949"),
    **dict.fromkeys(("iso-8859-1", "latin1", "windows-1252", "us-ascii"), "cp1252"),
    **dict.fromkeys(("shift_jis", "shift-jis", "x-sjis"), "cp932"),
    **{"euc-jp": "euc_jp", "gbk": "gb18030", "gb2312": "gb18030", "gb18030": "gb18030", "big5": "big5"},
}
_MOST_LIST_DEPTH: Final = 10
_END_ROW: Final = frozenset(("tr", "table", "thead", "tbody", "tfoot", *_HEADINGS))
_BREAK: Final = "\N{LINE SEPARATOR}"  # a line end that a reader sees; those of the file are spaces


def parse(name: str, data: bytes, limits: ParsingLimits) -> Document:
    """The document; its title is that of the page, or its first heading."""
    declared = _CHARSET.search(data[:4096])
    encoding = _ENCODINGS.get(declared[1].decode("ascii", "replace").lower()) if declared else None
    text, notes = decode(name, data, encoding)
    page = _Page(TextBuilder(name, limits))
    page.feed(text)
    page.close()
    page.end()
    if page.n_hidden:
        notes = (*notes, f"Hidden parts left out: {page.n_hidden:,}.")
    title = " ".join(page.title.split()) or page.first_heading or title_of(name)
    return page.builder.finish(title, "text/html", page.facts, notes)


class _Page(HTMLParser):
    """Collects the text of one block at a time, and hands it to the builder when the block ends."""

    def __init__(self, builder: TextBuilder) -> None:
        super().__init__(convert_charrefs=True)
        self.builder = builder
        self.title = ""
        self.first_heading = ""
        self.facts: dict[str, Any] = {}
        self.n_hidden = 0
        self._pieces: list[str] = []
        self._dropped = ""  # the element that is being left out, and how many of its kind are open
        self._n_dropped = 0
        self._heading = 0
        self._in_title = False
        self._in_pre = False
        self._list_depth = 0
        self._is_item = False
        self._is_first = False  # of a list or table
        self._n_cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropped == tag == "p":  # a paragraph need not be closed, and cannot hold another
            self._dropped = ""
        if self._dropped:
            self._n_dropped += tag == self._dropped
            return
        values = dict(attrs)
        is_hidden = "hidden" in values or bool(_HIDDEN.search(values.get("style") or ""))
        if (tag in _DROPPED or is_hidden) and tag not in _VOID:
            self.n_hidden += is_hidden
            self._dropped, self._n_dropped = tag, 1
        elif tag == "meta":
            self._take_fact(values)
        elif tag == "br":
            self._pieces.append(_BREAK)
        elif tag == "title":
            self._in_title = not self.title
        elif tag in ("td", "th"):
            self._pieces.append(" | " if self._n_cells else "")
            self._n_cells += 1
        elif self._n_cells and tag in _BLOCKS and tag not in _END_ROW:
            self._pieces.append(_BREAK)
        elif tag in _BLOCKS or tag == "pre":
            self.end()
            self._begin(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._dropped:
            self._n_dropped -= tag == self._dropped
            if not self._n_dropped:
                self._dropped = ""
        elif tag == "title":
            self._in_title = False
        elif self._n_cells and tag not in _END_ROW:
            pass
        elif tag in _BLOCKS or tag == "pre":
            self.end()
            if tag in ("ul", "ol"):
                self._list_depth = max(self._list_depth - 1, 0)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._dropped:
            self._pieces.append(data)

    def end(self) -> None:
        """Of the block: give what was collected to the builder."""
        text = "".join(self._pieces)
        self._pieces.clear()
        if self._in_pre:
            self.builder.paragraph(_fenced(text.replace(_BREAK, "\n")))
        elif self._heading:
            self.first_heading = self.first_heading or " ".join(text.split())
            self.builder.heading(self._heading, text)
        else:
            lines = (" ".join(line.split()) for line in text.split(_BREAK))
            self._write("\n".join(line for line in lines if line))
        self._heading, self._in_pre, self._is_item, self._n_cells = 0, False, False, 0

    def _begin(self, tag: str) -> None:
        self._heading = _HEADINGS.get(tag, 0)
        self._in_pre = tag == "pre"
        self._is_item = tag == "li"
        if tag in ("table", "ul", "ol"):
            self._is_first = not self._list_depth
        if tag in ("ul", "ol"):
            self._list_depth = min(self._list_depth + 1, _MOST_LIST_DEPTH)

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._is_item:
            text = "  " * (self._list_depth - 1) + "- " + text
        if (self._is_item or self._n_cells) and not self._is_first:
            self.builder.line(text)
        else:
            self.builder.paragraph(text)
        self._is_first = False

    def _take_fact(self, values: dict[str, str | None]) -> None:
        key, content = (values.get("name") or "").lower(), values.get("content")
        if key in ("author", "description", "date") and content:
            self.facts.setdefault(key, content[:1000])


def _fenced(text: str) -> str:
    text = text.strip("\n")
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}" if text.strip() else ""
