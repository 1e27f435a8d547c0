"""DOCX and HWPX: headings, tables and facts out of zipped XML."""

from __future__ import annotations

from madang.rag.parsing import parse_document
from tests.rag.parsing.making import docx, hwp_paragraph, hwpx, word_paragraph


def cell(*paragraphs: str) -> str:
    return f"<w:tc>{''.join(paragraphs)}</w:tc>"


def test_a_word_document() -> None:
    nested = f"<w:tbl><w:tr>{cell(word_paragraph('안'))}</w:tr></w:tbl>"
    rows = f"<w:tr>{cell(word_paragraph('이름'))}{cell(word_paragraph('날'))}</w:tr>" + (
        f"<w:tr>{cell(word_paragraph('병가'))}{cell(word_paragraph('10'), nested)}</w:tr>"
    )
    item = "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>하나</w:t></w:r></w:p>"
    stops = '<w:pPr><w:tabs><w:tab w:val="left" w:pos="9"/></w:tabs></w:pPr>'
    tabs = f"<w:p>{stops}<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t></w:r></w:p>"
    deleted = "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:t>kept</w:t></w:r></w:p>"
    body = (
        word_paragraph("휴가", "a1")
        + word_paragraph("연차는 15일 &amp; 유급.")
        + word_paragraph("신청", "mine")
        + item
        + item
        + f"<w:tbl>{rows}</w:tbl>"
        + tabs
        + deleted
    )
    core = (
        '<cp:p xmlns:cp="c" xmlns:dc="d" xmlns:dcterms="t"><dc:title> 규정 </dc:title><dc:creator>인사팀</dc:creator>'
        "<dcterms:created>2026-05-04T01:02:03Z</dcterms:created></cp:p>"
    )
    document = parse_document("a.docx", docx(body, {"docProps/core.xml": core, "word/media/1.png": b"x"}))
    assert document.text == (
        "휴가\n\n연차는 15일 & 유급.\n\n신청\n- 하나\n- 하나\n\n이름 | 날\n병가 | 10 안\n\na\tb\n\nkept"
    )
    assert [section.headings for section in document.sections] == [("휴가",), ("휴가", "신청")]
    assert (document.title, document.facts) == ("규정", {"author": "인사팀", "date": "2026-05-04"})
    assert document.notes == ("Images left out: 1.",)


def test_a_text_box_is_read_once() -> None:
    box = f"<w:txbxContent>{word_paragraph('in a box')}</w:txbxContent>"
    both = f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    choice = f"<mc:AlternateContent xmlns:mc='m'>{both}</mc:AlternateContent>"
    data = docx(f"<w:p><w:r>{choice}<w:t>around</w:t></w:r></w:p>")
    assert parse_document("a.docx", data).text == "in a box\n\naround"


def test_a_hangul_document() -> None:
    table = "".join(f"<hp:tc><hp:subList>{hwp_paragraph(text)}</hp:subList></hp:tc>" for text in "가나")
    note = f"<hp:ctrl><hp:footNote><hp:subList>{hwp_paragraph('각주')}</hp:subList></hp:footNote></hp:ctrl>"
    document = parse_document(
        "보고서.hwpx",
        hwpx(
            hwp_paragraph("첫째", shape=7)
            + f"<hp:p><hp:run><hp:t>본<hp:tab/>문<hp:lineBreak/>둘</hp:t>{note}</hp:run></hp:p>"
            + hwp_paragraph("작은 제목", style=3)
            + f"<hp:p><hp:run><hp:t>표 앞</hp:t><hp:tbl><hp:tr>{table}</hp:tr></hp:tbl></hp:run></hp:p>",
            hwp_paragraph("다음 구역"),
        ),
    )
    assert document.text == "첫째\n\n본\t문\n둘\n\n작은 제목\n\n표 앞\n\n가 | 나\n\n다음 구역"
    assert [section.headings for section in document.sections] == [("첫째",), ("첫째", "작은 제목")]
    assert (document.title, document.media_type) == ("연간 보고서", "application/hwp+zip")
    assert document.facts == {"author": "홍길동", "date": "2026-03-01"}
    assert document.notes == ("Headers, footers, notes and comments left out: 1.",)


def test_sections_of_a_hangul_document_are_in_the_order_of_their_numbers() -> None:
    text = parse_document("a.hwpx", hwpx(*(hwp_paragraph(f"구역 {n}") for n in range(12)))).text
    assert text.split("\n\n") == [f"구역 {n}" for n in range(12)]
