"""PDF, with PDFium: the text of each page, where pages begin, and sections by the bookmarks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from madang.core.errors import DocumentError
from madang.rag.documents import Document
from madang.rag.parsing.building import TextBuilder, title_of
from madang.rag.parsing.cleaning import clean
from madang.rag.parsing.limits import ParsingLimits
from madang.rag.parsing.recognising import PDF

if TYPE_CHECKING:
    import pypdfium2

_WRONG_PASSWORD: Final = 4  # FPDF_ERR_PASSWORD of fpdfview.h
_BROKEN_WORD: Final = re.compile("[\x02\ufffe\u00ad](?:\r?\n)?")  # a word that goes on in the next line
_DATE: Final = re.compile(r"D:(\d{4})(\d{2})(\d{2})")
_MOST_BOOKMARKS: Final = 5_000


def parse(name: str, data: bytes, limits: ParsingLimits) -> Document:
    """The document. Raises DocumentError also for one that has pictures of text only."""
    try:
        import pypdfium2
    except ImportError:
        raise DocumentError(
            name, "for PDF, pypdfium2 has to be installed", hint="Run: pip install 'madang[rag]'"
        ) from None
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _WRONG_PASSWORD:
            raise DocumentError(name, "it is encrypted", hint="Save it without a password.") from error
        raise DocumentError(name, "it is damaged, or no PDF", hint="Save it again.") from error
    if len(pdf) > limits.pages:
        problem = f"it has {len(pdf):,} pages, and {limits.pages:,} is the limit"
        raise DocumentError(name, problem, hint="Split it into several files.")
    builder = TextBuilder(name, limits)
    texts, notes = _pages(name, pdf, builder)
    for heading in _headings(pdf, builder.pages, texts):
        builder.mark_heading(*heading)
    told = pdf.get_metadata_dict(skip_empty=True)
    title = " ".join(told.get("Title", "").split()) or title_of(name)
    return builder.finish(title, PDF.media_type, _facts(told), notes)


def _pages(name: str, pdf: pypdfium2.PdfDocument, builder: TextBuilder) -> tuple[list[str], list[str]]:
    """The text of each page, which the builder has then, and notes about what was left out."""
    import pypdfium2

    texts: list[str] = []
    n_damaged = 0
    for number in range(len(pdf)):
        builder.page()
        try:
            page = pdf[number]
            textpage = page.get_textpage()
            text = _BROKEN_WORD.sub("", textpage.get_text_bounded())
            textpage.close()
            page.close()
        except pypdfium2.PdfiumError:
            n_damaged += 1
            text = ""
        texts.append(_lines(text))
        builder.add(texts[-1])
    n_blank = sum(not text for text in texts) - n_damaged
    if not any(texts):
        raise DocumentError(
            name,
            "there is no text on any page of it, only pictures of text or nothing",
            hint="Recognise its text first, for example with ocrmypdf.",
        )
    notes = []
    if n_blank:
        notes.append(f"Pages without text: {n_blank:,} of {len(texts):,}.")
    if n_damaged:
        notes.append(f"Damaged pages left out: {n_damaged:,} of {len(texts):,}.")
    return texts, notes


def _lines(text: str) -> str:
    """Without the spaces that PDF puts at the ends of lines, and without empty lines in a row."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _headings(pdf: pypdfium2.PdfDocument, pages: Sequence[int], texts: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(offset, level, title) of each bookmark: where its title stands on its page, or where the page begins."""
    last = 0
    for number, bookmark in enumerate(pdf.get_toc()):
        if number == _MOST_BOOKMARKS:
            return
        title = " ".join(bookmark.get_title().split())
        destination = bookmark.get_dest()
        index = destination.get_index() if destination is not None else None
        if not title or index is None or not 0 <= index < len(pages):
            continue
        offset = pages[index] + _line_of(title, clean(texts[index])[0], last - pages[index])
        if offset >= last:  # bookmarks may go back, where sections cannot
            last = offset
            yield offset, bookmark.level, title


def _line_of(title: str, text: str, begin: int) -> int:
    """Where the line that is the title begins, or else one that begins with it; 0 where there is none."""
    for ending in ("\n", ""):
        found = f"\n{text}\n".find(f"\n{title}{ending}", max(begin, 0))
        if found >= 0:
            return found
    return 0


def _facts(told: dict[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if author := " ".join(told.get("Author", "").split())[:1000]:
        facts["author"] = author
    if created := _DATE.match(told.get("CreationDate", "")):
        facts["date"] = "-".join(created.groups())
    return facts
