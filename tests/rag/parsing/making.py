"""Small files of each format, made by hand, so that every byte of them can be wrong on purpose."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
HP = 'xmlns:hp="http://www.hancom.co.kr/hwpml/2011/paragraph" xmlns:hs="http://www.hancom.co.kr/hwpml/2011/section"'


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, others: Mapping[str, str | bytes] | None = None) -> bytes:
    """A Word document with this XML as its body; ``others`` are files inside."""
    styles = (
        f"<w:styles {W}>"
        '<w:style w:styleId="a1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="a2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="mine"><w:name w:val="My own"/><w:basedOn w:val="a2"/></w:style>'
        "</w:styles>"
    )
    main = f'<?xml version="1.0" encoding="UTF-8"?><w:document {W}><w:body>{body}</w:body></w:document>'
    files: dict[str, str | bytes] = {"[Content_Types].xml": "<Types/>", "word/styles.xml": styles}
    return zipped({**files, "word/document.xml": main, **(others or {})})


def word_paragraph(text: str, style: str = "") -> str:
    """A paragraph of a Word document."""
    shape = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{shape}<w:r><w:t>{text}</w:t></w:r></w:p>"


def hwpx(*sections: str, others: Mapping[str, str] | None = None) -> bytes:
    """A Hangul document with these sections; ``others`` are files inside."""
    header = (
        '<hh:head xmlns:hh="http://www.hancom.co.kr/hwpml/2011/head"><hh:paraPr id="0"/>'
        '<hh:paraPr id="7"><hh:heading type="OUTLINE" idRef="0" level="0"/></hh:paraPr>'
        '<hh:style id="0" name="바탕글"/><hh:style id="3" name="개요 2" engName="Outline 2"/></hh:head>'
    )
    package = (
        '<opf:package xmlns:opf="http://www.idpf.org/2007/opf/"><opf:metadata><opf:title>연간 보고서</opf:title>'
        '<opf:meta name="creator" content="text">홍길동</opf:meta>'
        '<opf:meta name="CreatedDate" content="text">2026-03-01T09:00:00Z</opf:meta></opf:metadata></opf:package>'
    )
    files = {f"Contents/section{n}.xml": f"<hs:sec {HP}>{body}</hs:sec>" for n, body in enumerate(sections)}
    start = {"mimetype": "application/hwp+zip", "Contents/header.xml": header, "Contents/content.hpf": package}
    return zipped({**start, **files, **(others or {})})


def hwp_paragraph(text: str, shape: int = 0, style: int = 0) -> str:
    """A paragraph of a Hangul document."""
    return f'<hp:p paraPrIDRef="{shape}" styleIDRef="{style}"><hp:run><hp:t>{text}</hp:t></hp:run></hp:p>'


_TO_UNICODE = """/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def
1 begincodespacerange <00> <FF> endcodespacerange
3 beginbfchar <01> <D55C> <02> <AE00> <20> <0020> endbfchar
endcmap end end"""


def pdf(
    pages: Sequence[Sequence[str]],
    *,
    information: str = "",
    trailer: str = "",
    bookmarks: Sequence[tuple[str, int]] = (),
) -> bytes:
    """A PDF with lines of text on each page; "\\x01\\x02" is 한글. Bookmarks are titles with the index of a page."""
    first_page = 5
    kids = " ".join(f"{first_page + 2 * index} 0 R" for index in range(len(pages)))
    outline = first_page + 2 * len(pages)
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R /Outlines {outline} 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        4: f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode {outline + len(bookmarks) + 1} 0 R >>",
        outline + len(bookmarks) + 1: _stream(_TO_UNICODE),
        outline + len(bookmarks) + 2: f"<< {information} >>",
    }
    for index, lines in enumerate(pages):
        fonts = "/Font << /F1 3 0 R /F2 4 0 R >>"
        objects[first_page + 2 * index] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {first_page + 2 * index + 1} 0 R "
            f"/Resources << {fonts} >> >>"
        )
        shown = " ".join(f"/{'F2' if line.startswith(chr(1)) else 'F1'} 12 Tf ({line}) Tj 0 -20 Td" for line in lines)
        objects[first_page + 2 * index + 1] = _stream(f"BT 50 700 Td {shown} ET" if lines else "0 0 10 10 re f")
    last = outline + len(bookmarks)
    objects[outline] = (
        f"<< /Type /Outlines /First {outline + 1} 0 R /Last {last} 0 R /Count {len(bookmarks)} >>"
        if bookmarks
        else "<< /Type /Outlines /Count 0 >>"
    )
    for number, (title, index) in enumerate(bookmarks, outline + 1):
        following = f"/Next {number + 1} 0 R" if number < last else ""
        target = f"[{first_page + 2 * index} 0 R /Fit]"
        objects[number] = f"<< /Title ({title}) /Parent {outline} 0 R /Dest {target} {following} >>"
    return _assembled(objects, f"/Info {last + 2} 0 R {trailer}")


def _stream(content: str) -> str:
    return f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"


def _assembled(objects: Mapping[int, str], trailer: str) -> bytes:
    data = b"%PDF-1.4\n"
    offsets = {}
    for number in sorted(objects):
        offsets[number] = len(data)
        data += f"{number} 0 obj\n{objects[number]}\nendobj\n".encode("latin-1")
    start = len(data)
    rows = "".join(f"{offsets[number]:010} 00000 n \n" for number in sorted(objects))
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}".encode()
    return data + f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()


ENCRYPTED = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> /ID [<00><00>]"
