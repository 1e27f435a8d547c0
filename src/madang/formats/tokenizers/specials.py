"""Tokens that are found in a text by their exact spelling, before any algorithm sees it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary

# Breaks up control tokens that a person wrote (see SpecialTokens.guard) and is dropped when the text is encoded. A
# noncharacter: Unicode promises that it never stands for anything in exchanged text.
GUARD: Final = "\ufdd0"


class LiteralFinder:
    """Finds a fixed set of strings in a text: the leftmost first, the longest of those that begin at one place.

    A vocabulary may hold thousands of control tokens. An alternation of them all costs microseconds at every "<" of a
    page of HTML; looking up the few lengths that exist behind a first letter does not.
    """

    __slots__ = ("_first", "_lengths", "_literals")

    def __init__(self, literals: Mapping[str, int]) -> None:
        """``literals`` maps each non-empty string to the id that stands for it."""
        self._literals = dict(literals)
        lengths: dict[str, set[int]] = {}
        for literal in self._literals:
            lengths.setdefault(literal[0], set()).add(len(literal))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        self._first = re.compile("[" + "".join(map(re.escape, lengths)) + "]") if lengths else None

    def find(self, text: str, start: int = 0) -> tuple[int, int, int] | None:
        """Begin, end and id of the first occurrence at or after ``start``; None when there is none."""
        if self._first is None:
            return None
        for match in self._first.finditer(text, start):
            begin = match.start()
            for length in self._lengths[text[begin]]:
                literal = text[begin : begin + length]
                token_id = self._literals.get(literal)
                if token_id is not None:
                    return begin, begin + len(literal), token_id
        return None

    def split(self, text: str) -> Iterator[str | int]:
        """The text in order: ids for what was found, the non-empty strings between them as they are."""
        start = 0
        while (found := self.find(text, start)) is not None:
            begin, end, token_id = found
            if begin > start:
                yield text[start:begin]
            yield token_id
            start = end
        if start < len(text):
            yield text[start:]


class SpecialTokens:
    """The tokens of a vocabulary that are taken whole.

    Control tokens (and the unknown token) only count where the caller trusts the text; user-defined tokens always do,
    unless ``own_user_defined`` says that the algorithm deals with them itself.
    """

    __slots__ = ("_always", "_control", "_trusted")

    def __init__(self, vocabulary: Vocabulary, *, own_user_defined: bool = False) -> None:
        control = vocabulary.ids_of(TokenKind.CONTROL, TokenKind.UNKNOWN)
        always = {} if own_user_defined else vocabulary.ids_of(TokenKind.USER_DEFINED)
        self._control = LiteralFinder(control)
        self._always = LiteralFinder(always)
        self._trusted = LiteralFinder({**always, **control})

    def encode(self, text: str, encode_plain: Callable[[str], list[int]], *, parse_special: bool) -> list[int]:
        """Ids of ``text``: special tokens as themselves, what lies between them by ``encode_plain``, guards dropped."""
        finder = self._trusted if parse_special else self._always
        ids: list[int] = []
        for piece in finder.split(text):
            if isinstance(piece, int):
                ids.append(piece)
            elif plain := piece.replace(GUARD, ""):
                ids.extend(encode_plain(plain))
        return ids

    def guard(self, text: str) -> str:
        """``text`` with a guard inside every control token, overlapping ones too, so that none is recognized."""
        return guard_literals(text, self._control)


def guard_literals(text: str, finder: LiteralFinder) -> str:
    """``text`` with a guard after the first character of everything that ``finder`` finds.

    Guards that were in the text are removed first: they could hide a token here and be dropped later.
    """
    text = text.replace(GUARD, "")
    parts: list[str] = []
    start = 0
    while (found := finder.find(text, start)) is not None:
        after_first = found[0] + 1
        parts += (text[start:after_first], GUARD)
        start = after_first
    return "".join((*parts, text[start:]))
