"""Chunks: pieces of the text that fit, cut where the text has joints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import InvalidRequest
from madang.rag import Chunk, Document, Section
from madang.rag.chunking import split
from madang.rag.parsing import parse_document

_TOKEN = re.compile(r"\w|[^\w\s]")


class Counter:
    """Counts letters and signs, and two tokens around each text, as an embedding model has them."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.n_characters = 0

    def __call__(self, texts: Sequence[str]) -> list[int]:
        self.n_calls += 1
        self.n_characters += sum(map(len, texts))
        return [len(_TOKEN.findall(text)) + 2 for text in texts]


def chunks_of(name: str, text: str, budget_tokens: int = 60, overlap_tokens: int = 0) -> list[Chunk]:
    document = parse_document(name, text.encode())
    chunks = split(document, Counter(), budget_tokens=budget_tokens, overlap_tokens=overlap_tokens)
    check(document, chunks, budget_tokens)
    return chunks


def check(document: Document, chunks: Sequence[Chunk], budget_tokens: int) -> None:
    """What holds for every document."""
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip() and chunk.text == chunk.text.rstrip()
        assert [chunk.n_tokens] == Counter()([chunk.text]) and chunk.n_tokens <= budget_tokens
    assert [chunk.start for chunk in chunks] == sorted({chunk.start for chunk in chunks})
    seen = bytearray(len(document.text))
    for chunk in chunks:
        seen[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    parts = "".join(document.text[section.start : section.end] for section in document.sections)
    missed = "".join(character for character, was_seen in zip(document.text, seen, strict=True) if not was_seen)
    assert len("".join(missed.split())) == len("".join(document.text.split())) - len("".join(parts.split()))


TEXTS = st.text(st.sampled_from("ab가나😀 \n\t.!?:|#`-,e\u0301\u200d"), max_size=400)


@given(TEXTS, st.sampled_from(["a.md", "a.txt", "a.py", "a.csv"]), st.integers(18, 60), st.integers(0, 8))
def test_any_text_is_covered_by_chunks_that_fit(text: str, name: str, budget_tokens: int, overlap_tokens: int) -> None:
    if any(character.isalpha() for character in text):
        chunks_of(name, text, budget_tokens, overlap_tokens)


@given(st.lists(st.tuples(st.sampled_from(["Kim", "Lee", "박"]), TEXTS), min_size=1, max_size=30))
def test_any_meeting_is_covered_by_chunks_that_fit(turns: list[tuple[str, str]]) -> None:
    lines = [f"{speaker}: {' '.join(said.split())}".rstrip() for speaker, said in turns]
    text = "\n".join(lines)
    facts = {"speakers": ["Kim", "Lee", "박"]}
    document = Document(
        title="m", media_type="text/plain", text=text, sections=(Section((), 0, len(text)),), facts=facts
    )
    check(document, split(document, Counter(), budget_tokens=40), 40)


def test_chunks_carry_their_headings_and_stay_in_their_section() -> None:
    chunks = chunks_of("a.md", "# One\n\nfirst\n\n## Two\n\nsecond\n\n# Three\n\nthird\n")
    assert [(chunk.headings, chunk.text) for chunk in chunks] == [
        (("One",), "# One\n\nfirst"),
        (("One", "Two"), "## Two\n\nsecond"),
        (("Three",), "# Three\n\nthird"),
    ]


def test_a_heading_alone_goes_with_what_follows() -> None:
    chunks = chunks_of("a.md", "# One\n\n## Two\n\nwords\n\n# Alone\n\n# Last\n\nend")
    assert [(chunk.headings, chunk.text) for chunk in chunks] == [
        (("One", "Two"), "# One\n\n## Two\n\nwords"),
        (("Alone",), "# Alone"),
        (("Last",), "# Last\n\nend"),
    ]


def test_cuts_are_between_paragraphs_first() -> None:
    text = "aaaa aaaa. bbbb bbbb.\n\ncccc cccc. dddd dddd.\n\neeee eeee. ffff ffff."
    assert [chunk.text for chunk in chunks_of("a.txt", text, 42)] == [
        "aaaa aaaa. bbbb bbbb.\n\ncccc cccc. dddd dddd.",
        "eeee eeee. ffff ffff.",
    ]


@pytest.mark.parametrize(
    "sentences",
    [
        [
            "Dr. Kim met J. R. Smith at No. 5 today.",
            "He was late!",
            "Was it 3.5 hours?",
            'She said "no."',
            "So it was.",
        ],
        ["회의는 세 시에 시작합니다.", "늦지 마세요!", "준비가 되었나요?", "네, 준비되었습니다.", "그럼 시작하죠."],
    ],
)
def test_then_between_sentences(sentences: list[str]) -> None:
    ends = {" ".join(sentences[: n + 1]).__len__() for n in range(len(sentences))}
    assert {chunk.end for chunk in chunks_of("a.txt", " ".join(sentences), 36)} <= ends


def test_korean_sentences_without_spaces_between_them() -> None:
    assert [chunk.text for chunk in chunks_of("a.txt", "회의를 시작합니다.모두 모이세요.늦지 마세요.", 18)] == [
        "회의를 시작합니다.",
        "모두 모이세요.늦지 마세요.",
    ]


def test_code_in_a_fence_stays_whole_where_it_fits() -> None:
    code = "```python\n" + "x = 1\ny = 2\n\n" * 3 + "```"
    text = "Some words before it.\n\n" + code + "\n\nAnd some words after it."
    chunks = chunks_of("a.md", text, 50)
    assert len(chunks) > 1 and any(code in chunk.text for chunk in chunks)


def test_code_that_does_not_fit_is_cut_between_lines() -> None:
    text = "```\n" + "".join(f"line_{n} = {n}\n" for n in range(40)) + "```\n"
    for chunk in chunks_of("a.md", text, 50):
        assert all(re.fullmatch(r"line_\d+ = \d+|```", line) for line in chunk.text.split("\n"))


def test_rows_of_a_table_stay_whole() -> None:
    text = "question,answer\n" + "".join(f"why {n}?,since {n}.\n" for n in range(30))
    for chunk in chunks_of("a.csv", text):
        assert all(re.fullmatch(r"question: why \d+\? \| answer: since \d+\.", line) for line in chunk.text.split("\n"))


MEETING = "".join(f"{'Kim' if n % 2 else 'Lee'}: point {n} of it\n" for n in range(12))


def test_turns_stay_whole_and_the_one_who_says_most_is_the_speaker() -> None:
    long_turn = f"Kim: {'many words here ' * 20}".rstrip()
    chunks = chunks_of("meeting.txt", f"{MEETING}{long_turn}\n{MEETING}", 100)
    for chunk in chunks:
        if "many" not in chunk.text:
            assert all(re.fullmatch(r"(Kim|Lee): point \d+ of it", line) for line in chunk.text.split("\n"))
    of_the_long_turn = [chunk for chunk in chunks if "many" in chunk.text]
    assert len(of_the_long_turn) > 2 and {chunk.speaker for chunk in of_the_long_turn} == {"Kim"}
    assert of_the_long_turn[0].text.startswith("Kim: many")


def test_nobody_is_the_speaker_of_what_all_say() -> None:
    text = "".join(f"{name}: point of the day\n" for name in ("Kim", "Lee", "Han") * 4)
    assert {chunk.speaker for chunk in chunks_of("a.txt", text, 200)} == {None}


def test_pages_count_from_one() -> None:
    text = "first page\n\nsecond page\n\nthird page"
    document = Document(
        title="a", media_type="application/pdf", text=text, sections=(Section((), 0, len(text)),), pages=(0, 12, 25)
    )
    assert [chunk.page for chunk in split(document, Counter(), budget_tokens=18)] == [1, 2, 3]
    assert chunks_of("a.txt", text)[0].page is None


def test_an_overlap_repeats_the_end_of_the_chunk_before() -> None:
    text = " ".join(f"Sentence number {n}." for n in range(20))
    chunks = chunks_of("a.txt", text, 60, 20)
    for before, after in pairwise(chunks):
        assert before.start < after.start < before.end < after.end
        assert text[after.start : before.end].startswith("Sentence")


def test_the_last_chunk_is_no_scrap() -> None:
    text = " ".join(f"word{n}." for n in range(19))
    assert min(chunk.n_tokens for chunk in chunks_of("a.txt", text, 100)) > 40


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "가" * 1_000_000, "word " * 200_000, "." * 1_000_000, "a\n" * 300_000, "다." * 300_000],
    ids=["letters", "syllables", "words", "dots", "lines", "sentences"],
)
def test_a_million_characters_take_a_few_rounds(text: str) -> None:
    document = Document(title="a", media_type="text/plain", text=text, sections=(Section((), 0, len(text)),))
    counter = Counter()
    chunks = split(document, counter, budget_tokens=256)
    assert max(chunk.n_tokens for chunk in chunks) <= 256
    assert sum(len(chunk.text.replace(" ", "").replace("\n", "")) for chunk in chunks) == len("".join(text.split()))
    assert counter.n_characters < 6 * len(text)
    assert counter.n_calls < 1000


def test_a_tokenizer_that_knows_no_long_words_is_not_believed() -> None:
    def one_token_per_word(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]

    text = "x" * 100_000
    document = Document(title="a", media_type="text/plain", text=text, sections=(Section((), 0, len(text)),))
    chunks = split(document, one_token_per_word, budget_tokens=100)
    assert max(len(chunk.text) for chunk in chunks) <= 1000
    assert "".join(chunk.text for chunk in chunks) == text


def test_longer_wholes_than_the_sum_of_their_pieces_are_halved() -> None:
    def more_together(texts: Sequence[str]) -> list[int]:
        return [len(text) + len(text) ** 2 // 100 for text in texts]

    text = "word. " * 200
    document = Document(title="a", media_type="text/plain", text=text, sections=(Section((), 0, len(text)),))
    chunks = split(document, more_together, budget_tokens=60)
    assert all(more_together([chunk.text]) == [chunk.n_tokens] and chunk.n_tokens <= 60 for chunk in chunks)
    assert sum(chunk.text.count("word") for chunk in chunks) == 200


@pytest.mark.parametrize(("budget_tokens", "overlap_tokens"), [(17, 0), (0, 0), (-1, 0), (100, 50), (100, -1)])
def test_what_holds_nothing_is_refused(budget_tokens: int, overlap_tokens: int) -> None:
    with pytest.raises(InvalidRequest):
        chunks_of("a.txt", "some text", budget_tokens, overlap_tokens)
