"""Questions on the Korean Rust book, each with the section that answers it, made by a rule and not by a person.

    python benchmarks/make_questions.py     # writes questions/rust_book.jsonl, the same bytes each time

Two kinds of each section whose prose has at least 200 characters, except those called "정리" (summary):

- "heading" says the section's own heading as a question: verb endings and particles are others than in the text;
- "words" names the three words of its prose that tell it best from other sections (most often there, least elsewhere),
  none of which stands in its headings or in its first 60 characters. Korean ones stand somewhere in the book with three
  different particles, as nouns do; one of the three may be in Latin letters.

No sentence of the book is copied. What this favours: methods that match words, as a person who has read the book would
choose words; it says little about questions that use none of its words. "heading" also favours indexes that read the
headings with each chunk, as ours does.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from madang.rag import Document, Section
from madang.rag.parsing import parse_document
from own_engine import DATA

QUESTIONS = Path(__file__).parent / "questions"
LEAST_CHARACTERS = 200
N_WORDS = 3
_HEAD_CHARACTERS = 60

_CODE = re.compile(r"^(?:> ?)*```.*?^(?:> ?)*```", re.MULTILINE | re.DOTALL)
_MARKUP = re.compile(r"<[^<>\n]*>|\]\([^)\n]*\)|^\[[^\]\n]*\]:.*$|[*#>_|]", re.MULTILINE)
_WORD = re.compile(r"[가-힣]{2,}|[A-Za-z][A-Za-z_]{3,}")
# Particles and endings that a noun is cut off from; the longest that fits, and two syllables stay.
_ENDINGS = sorted(
    (
        *(
            "으로부터",
            "에서는",
            "에게서",
            "이라는",
            "이라고",
            "으로는",
            "에서의",
            "하는지",
            "했습니다",
            "합니다",
            "됩니다",
        ),
        *(
            "입니다",
            "습니다",
            "하고",
            "하는",
            "하여",
            "하면",
            "해서",
            "되는",
            "되어",
            "된",
            "한",
            "할",
            "함",
            "하게",
            "하기",
        ),
        *(
            "에서",
            "에게",
            "으로",
            "까지",
            "부터",
            "처럼",
            "보다",
            "마다",
            "라는",
            "라고",
            "이나",
            "이라",
            "들이",
            "들을",
        ),
        *(
            "들은",
            "들의",
            "들",
            "은",
            "는",
            "이",
            "가",
            "을",
            "를",
            "의",
            "에",
            "로",
            "와",
            "과",
            "도",
            "만",
            "나",
            "며",
            "고",
        ),
    ),
    key=lambda ending: -len(ending),
)
_PARTICLES = ("은", "는", "이", "가", "을", "를", "의", "에", "로", "으로", "와", "과", "에서", "도")
_LEAST_PARTICLES = 3
# Words of any explanation; they tell no section from another.
_DULL = frozenset(
    "여기 이번 이것 그것 우리 여러분 다음 때문 경우 위해 대해 대한 통해 예제 코드 있습 없습 살펴 봅시 만약".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Place:
    """A section of a document, its prose and its words."""

    file: str
    section: Section
    prose: str
    words: Counter[str]


def places(folder: Path) -> Iterator[Place]:
    """All that questions are asked of, in order."""
    for path in sorted(folder.glob("*.md")):
        document = parse_document(path.name, path)
        for section in document.sections:
            prose = _prose(document, section)
            if section.headings and section.headings[-1] != "정리" and len(prose) >= LEAST_CHARACTERS:
                yield Place(path.name, section, prose, Counter(_words(prose)))


def _prose(document: Document, section: Section) -> str:
    text = _CODE.sub(" ", document.text[section.start : section.end])
    lines = text.split("\n")
    return re.sub(r"\s+", " ", _MARKUP.sub(" ", "\n".join(lines[1:] if lines[0].startswith("#") else lines))).strip()


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match[0]
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 2:
                word = word[: -len(ending)]
                break
        if word not in _DULL and not word.endswith(("습", "입", "니", "세", "어", "여", "해", "했", "겠", "있", "없")):
            yield word


def nouns(found: Sequence[Place]) -> set[str]:
    """Words that stand somewhere with several particles, or are in Latin letters."""
    particles: dict[str, set[str]] = {}
    known = {word for place in found for word in place.words}
    for match in (match for place in found for match in _WORD.finditer(place.prose)):
        for particle in _PARTICLES:
            if match[0].endswith(particle) and (stem := match[0].removesuffix(particle)) in known:
                particles.setdefault(stem, set()).add(particle)
    return {word for word in known if word.isascii() or len(particles.get(word, ())) >= _LEAST_PARTICLES}


def telling_words(place: Place, allowed: set[str], n_with: Counter[str], n_places: int) -> list[str]:
    """The words that tell a section from others, the best first, then the one in Latin letters."""
    taken = " ".join(place.section.headings) + place.prose[:_HEAD_CHARACTERS]

    def merit(word: str) -> tuple[float, str]:
        return -min(place.words[word], 4) * math.log(n_places / n_with[word]), word

    words = sorted((word for word in allowed & place.words.keys() if word not in taken), key=merit)
    latin = [word for word in words if word.isascii() and place.words[word] > 1][:1]
    korean = [word for word in words if not word.isascii()]
    return [*latin, *korean[: N_WORDS - len(latin)]]


def heading_question(heading: str) -> str:
    """Its heading as a question."""
    said = re.sub(r"[`*]", "", heading).strip().rstrip(".!")
    if said.endswith("?"):
        return f"{said} 알려 주세요"
    if said.endswith("봅시다"):
        return f"{said[:-3]}보려면 어떻게 해야 하나요?"
    if said.endswith(("방법", "점들", "시트")):
        return f"{said}{_particle(said, '을', '를')} 알려 주세요"
    if said.endswith("하기"):
        return f"{said[:-2]}하려면 어떻게 해야 하나요?"
    if said.endswith("기"):
        return f"{said}는 어떻게 하나요?"
    if said.endswith("니다"):
        return f"{said[:-2]}다는 것은 무슨 뜻인가요?" if said.endswith("합니다") else f"{said}, 왜 그런가요?"
    return f"{said}{_particle(said, '이란', '란')} 무엇이고 어떻게 쓰나요?"


def words_question(words: Sequence[str]) -> str:
    """Its words as a question."""
    *first, last = words
    return f"{', '.join(first)}{_particle(first[-1], '과', '와')} {last}의 관계를 설명해 주세요."


def _particle(word: str, after_consonant: str, after_vowel: str) -> str:
    code = ord(word[-1]) - 0xAC00
    return after_consonant if 0 <= code < 11_172 and code % 28 else after_vowel


def main() -> int:
    """Write them."""
    found = [*places(DATA / "korean" / "rust_book")]
    n_with = Counter(word for place in found for word in place.words)
    allowed = nouns(found)
    lines = []
    for place in found:
        gold = {"document": place.file, "headings": place.section.headings}
        lines.append({"kind": "heading", "question": heading_question(place.section.headings[-1]), **gold})
        words = telling_words(place, allowed, n_with, len(found))
        if len(words) == N_WORDS:
            lines.append({"kind": "words", "question": words_question(words), **gold})
    QUESTIONS.mkdir(exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (QUESTIONS / "rust_book.jsonl").write_text(text, encoding="utf-8")
    print(f"{len(lines)} questions on {len(found)} sections")
    return 0


if __name__ == "__main__":
    sys.exit(main())
