"""Whether two tokenizers give the same ids, on a text in which they differ if they ever do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from madang.core.errors import CannotConvert
from madang.formats.tokenizers.tokenizer import Tokenizer

DECOMPOSED: Final = "e\u0301 and \u1112\u1161\u11ab in pieces"
SAMPLES: Final = (
    "The quick brown fox jumps over 13 lazy dogs; it's 3.14159 o'clock, isn't it? They'll say WE'VE won!",
    "안녕하세요. 대한민국의 수도는 서울입니다! 가격은 1,234,567원이고 2026년 11월 21일에 만나요~ ㅋㅋㅋㅋ ㅠㅠ",
    "닭갈비와 뷁쀍 같은 드문 글자, 그리고 한자 漢字와 日本語のテキスト、中文文本。",
    "def f(x: int) -> dict[str, float]:\n\treturn {'a': x ** 2, \"b\": [1, 22, 333, 4444]}\n\n\n",
    "camelCase HTTPServer snake_case",
    "  two spaces,   three,\ttab, \n newline \r\n and the end   ",
    "naïve café coöperation Ünïcödé ÅNGSTRÖM Straße ﬁne № ½ ²",
    DECOMPOSED,
    "🙂 👩‍👩‍👧‍👦 🇰🇷 §±≠≈∞ … — “quoted” ‘single’ «guillemets» $100 €50",
    "#tag @name user@example.com https://example.com/a?b=c&d=1",
    "Здравствуй, мир! שלום עולם مرحبا بالعالم नमस्ते สวัสดี",
    "aaaaaaaaaaaaaaaa 0000000000000000 !!!!!!!!!!!! ________ --------",
    "",
    " ",
    "a",
)


def require_same_ids(before: Tokenizer, after: Tokenizer, form: str, samples: Sequence[str] = SAMPLES) -> None:
    """Raise CannotConvert when the two differ on any sample; ``form`` names what ``after`` was written as.

    The `tokenizers` library applies SentencePiece's character rules to whole graphemes only, so that letters in pieces
    may differ from the original; then they are not compared.
    """
    for text in samples:
        if text == DECOMPOSED and len(before.vocabulary.scores or after.vocabulary.scores):
            continue
        expected, found = before.encode(text), after.encode(text)
        if expected != found:
            place = next((n for n, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), 0)
            shown = before.token_text(expected[place]) if place < len(expected) else ""
            raise CannotConvert(
                f"its tokenizer gives other ids as {form}, first for {shown!r} in {text[:40]!r}",
                hint="A tokenizer of another kind than those that the format knows cannot be written.",
            )
