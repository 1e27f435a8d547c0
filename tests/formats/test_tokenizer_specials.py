"""Finding fixed strings: leftmost, longest, none forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from madang.formats.tokenizers.specials import GUARD, LiteralFinder, guard_literals

WORDS = st.text("ab<", min_size=1, max_size=4)


@given(st.sets(WORDS, max_size=8), st.text("ab<c", max_size=30))
def test_like_looking_everywhere(words: set[str], text: str) -> None:
    literals = {word: n for n, word in enumerate(sorted(words))}
    expected: list[str | int] = []
    plain, position = "", 0
    while position < len(text):
        fits = [word for word in words if text.startswith(word, position)]
        if fits:
            expected += [plain] if plain else []
            longest = max(fits, key=len)
            expected.append(literals[longest])
            plain, position = "", position + len(longest)
        else:
            plain += text[position]
            position += 1
    expected += [plain] if plain else []
    assert list(LiteralFinder(literals).split(text)) == expected


@given(st.sets(st.text("ab<", min_size=2, max_size=4), max_size=8), st.text("ab<c" + GUARD, max_size=30))
def test_nothing_is_found_in_guarded_text(words: set[str], text: str) -> None:
    finder = LiteralFinder({word: n for n, word in enumerate(words)})
    guarded = guard_literals(text, finder)
    assert finder.find(guarded) is None
    assert guarded.replace(GUARD, "") == text.replace(GUARD, "")


def test_overlapping_tokens_are_all_guarded() -> None:
    assert guard_literals("ababa", LiteralFinder({"aba": 0, "bab": 1})) == f"a{GUARD}b{GUARD}a{GUARD}ba"
