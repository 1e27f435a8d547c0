"""Markdown: sections by headings, and nothing that only looks like one."""

from __future__ import annotations

import pytest

from madang.rag import Document
from madang.rag.parsing import parse_document

PAGE = """---
title: "러스트 안내서"
author: 홍길동
tags: [a, b]
nested:
  title: no
---
Before all headings.

# 소유권 {#ownership}

One.

## [`String`](string.md) 타입 ##

```markdown
# not a heading
~~~
```

Two.

<!--
# not a heading either
-->

Setext
------

    # indented code

> # quoted

- item
---

### Deep
"""


def headings(text: str) -> list[tuple[str, ...]]:
    return [section.headings for section in parse(text).sections]


def parse(text: str) -> Document:
    return parse_document("page.md", text.encode())


def test_sections_follow_the_headings() -> None:
    document = parse(PAGE)
    assert document.text == PAGE
    assert [section.headings for section in document.sections] == [
        (),
        ("소유권",),
        ("소유권", "String 타입"),
        ("소유권", "Setext"),
        ("소유권", "Setext", "Deep"),
    ]
    assert [PAGE[section.start : section.end].split("\n")[0] for section in document.sections] == [
        "Before all headings.",
        "# 소유권 {#ownership}",
        "## [`String`](string.md) 타입 ##",
        "Setext",
        "### Deep",
    ]
    assert [section.end for section in document.sections[:-1]] == [section.start for section in document.sections[1:]]


def test_front_matter_becomes_facts() -> None:
    document = parse(PAGE)
    assert document.title == "러스트 안내서"
    assert document.facts == {"author": "홍길동", "tags": "[a, b]"}


@pytest.mark.parametrize(
    ("text", "title"),
    [("## B\n\n# A\n", "A"), ("no heading", "page"), ("---\nunfinished: yes\n\n# Real\n", "Real")],
)
def test_the_title_is_the_highest_heading(text: str, title: str) -> None:
    assert parse(text).title == title


def test_a_level_that_is_left_out_is_no_level_of_the_path() -> None:
    assert headings("# A\n#### B\n## C\n") == [("A",), ("A", "B"), ("A", "C")]


def test_an_open_fence_goes_on_to_the_end() -> None:
    assert headings("# A\n```\n# x\n```` y\n# z\n") == [("A",)]


def test_what_is_no_heading_after_commonmark() -> None:
    assert headings("#hashtag\n####### seven\n\\# escaped\n") == [()]


def test_an_endless_heading_is_shortened() -> None:
    text = "# " + "[" * 500_000
    (section,) = parse(text).sections
    assert len(section.headings[0]) == 200 and section.headings[0].endswith("…")
