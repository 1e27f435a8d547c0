"""PDF: pages, bookmarks, and pages that have no text."""

from __future__ import annotations

from madang.rag.parsing import parse_document
from tests.rag.parsing.making import pdf


def test_pages_have_offsets() -> None:
    document = parse_document("report.pdf", pdf([["First page.", "Second line."], [], ["\x01\x02 \x02"]]))
    assert document.text == "First page.\nSecond line.\n\n한글 글"
    assert [document.text[page:].split("\n")[0] for page in document.pages] == ["First page.", "한글 글", "한글 글"]
    assert (document.title, document.media_type) == ("report", "application/pdf")
    assert document.notes == ("Pages without text: 1 of 3.",)


def test_bookmarks_are_headings() -> None:
    pages = [["Intro", "words"], ["The Method", "Methods", "Method", "words"], ["end"]]
    document = parse_document("a.pdf", pdf(pages, bookmarks=[("Intro", 0), ("Method", 1), ("Unseen", 2), ("Intro", 0)]))
    starts = {section.headings: document.text[section.start :].split("\n")[0] for section in document.sections}
    assert starts == {("Intro",): "Intro", ("Method",): "Method", ("Unseen",): "end"}


def test_facts_stand_in_the_information_of_the_file() -> None:
    document = parse_document(
        "a.pdf", pdf([["x"]], information="/Title (My report) /Author (Kim) /CreationDate (D:20260304)")
    )
    assert (document.title, document.facts) == ("My report", {"author": "Kim", "date": "2026-03-04"})
