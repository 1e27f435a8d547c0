"""SentencePiece, both of its algorithms: merges by score ("llama" in GGUF) and the likeliest split ("t5").

Follows google/sentencepiece (src/bpe_model.cc, src/unigram_model.cc) to the last tie, so that every id is the one the
model was trained with. The `tokenizers` library differs on ties: its merges are ranked by pair, not by result.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Final

from madang.formats.tokenizers.normalizer import SPACE_MARK, Normalizer
from madang.formats.tokenizers.specials import LiteralFinder, SpecialTokens
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary

_USABLE: Final = (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED)
_BYTE_TEXT: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CACHED_WORDS: Final = 16_384
_UNKNOWN_PENALTY: Final = 10.0
_SINGLE: Final = struct.Struct("f")


class SentencePiece:
    """A SentencePiece vocabulary, ready to encode. Any number of threads may use it.

    Text that no token covers becomes byte tokens when the vocabulary has all 256, otherwise the unknown token, once for
    a run. A space comes before the text and after each control token when the normalizer adds one.
    """

    def __init__(self, vocabulary: Vocabulary, normalizer: Normalizer, *, unigram: bool) -> None:
        """``vocabulary`` has a score for every token."""
        user_defined = vocabulary.ids_of(TokenKind.USER_DEFINED)
        self._normalizer = replace(normalizer, protected=LiteralFinder(_marked(user_defined)))
        self._specials = SpecialTokens(vocabulary, own_user_defined=True)
        self._unknown_id = vocabulary.unknown_id or 0
        self._byte_ids = _byte_ids(vocabulary)
        self._split: Callable[[str], list[str | int]] = (
            _Unigram(vocabulary).split if unigram else _Merges(vocabulary).split
        )
        self.leading_space = normalizer.add_space_prefix

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of ``text``; control tokens in it count when ``parse_special``."""
        return self._specials.encode(text, self._encode_plain, parse_special=parse_special)

    def guard(self, text: str) -> str:
        """``text`` with its control tokens disarmed."""
        return self._specials.guard(text)

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The bytes that a token stands for."""
        if kind == TokenKind.BYTE and (byte := byte_of_text(text)) is not None:
            return bytes([byte])
        return text.replace(SPACE_MARK, " ").encode()

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        after_unknown = False
        for piece in self._split(self._normalizer.normalize(text)):
            if isinstance(piece, int):
                ids.append(piece)
                after_unknown = False
            elif self._byte_ids:
                ids.extend(self._byte_ids[byte] for byte in piece.encode())
            elif not after_unknown:
                ids.append(self._unknown_id)
                after_unknown = True
        return ids


def byte_of_text(text: str) -> int | None:
    """The byte that a token like "<0x0A>" stands for; None for other texts."""
    match = _BYTE_TEXT.fullmatch(text)
    return int(match[1], 16) if match else None


def _byte_ids(vocabulary: Vocabulary) -> list[int]:
    """The id of each byte, or nothing when some byte has none."""
    found: dict[int, int] = {}
    for text, token_id in vocabulary.ids_of(TokenKind.BYTE).items():
        if (byte := byte_of_text(text)) is not None:
            found[byte] = token_id
    return [found[byte] for byte in range(256)] if len(found) == 256 else []


class _Merges:
    """Pairs of neighbours become one token, the highest score first, the leftmost of equals."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = vocabulary.ids_of(*_USABLE)
        self._scores = vocabulary.scores
        self._unused = frozenset(vocabulary.ids_of(TokenKind.UNUSED))
        self._frozen = LiteralFinder(_marked(vocabulary.ids_of(TokenKind.USER_DEFINED)))
        # Where no token continues past a word, words can be split one by one and remembered. (A lone surrogate between
        # the tokens, because no token can hold one.)
        crosses_words = re.search(f"[^{SPACE_MARK}\ud800]{SPACE_MARK}", "\ud800".join(self._ids)) is not None
        self._words = None if crosses_words else re.compile(f"{SPACE_MARK}+[^{SPACE_MARK}]*|[^{SPACE_MARK}]+")
        self._split_word = lru_cache(_CACHED_WORDS)(self._merge)

    def split(self, text: str) -> list[str | int]:
        """Ids, and the characters that no token covers as they are."""
        pieces: list[str | int] = []
        for part in self._frozen.split(text):
            if isinstance(part, int):
                pieces.append(part)
            elif self._words is None:
                pieces += self._merge(part)
            else:
                for word in self._words.findall(part):
                    pieces += self._split_word(word)
        return pieces

    def _merge(self, text: str) -> tuple[str | int, ...]:
        symbols: list[str] = list(text)
        following = [*range(1, len(symbols)), -1]
        preceding = [*range(-1, len(symbols) - 1)]
        queue: list[tuple[float, int, int, int]] = []
        halves: dict[str, tuple[str, str]] = {}

        def candidate(left: int, right: int) -> tuple[float, int, int, int] | None:
            merged = symbols[left] + symbols[right]
            token_id = self._ids.get(merged)
            if token_id is None:
                return None
            if merged in self._unused:
                halves[merged] = (symbols[left], symbols[right])
            return -self._scores[token_id], left, right, len(merged)

        queue = [pair for left in range(len(symbols) - 1) if (pair := candidate(left, left + 1)) is not None]
        heapify(queue)
        while queue:
            _, left, right, length = heappop(queue)
            # Either side may have been merged since; then the lengths no longer add up.
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != length:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            following[left] = following[right]
            if following[right] >= 0:
                preceding[following[right]] = left
            for near, far in ((preceding[left], left), (left, following[left])):
                if near >= 0 and far >= 0 and (pair := candidate(near, far)) is not None:
                    heappush(queue, pair)
        return tuple(piece for symbol in symbols if symbol for piece in self._resolve(symbol, halves))

    def _resolve(self, symbol: str, halves: dict[str, tuple[str, str]]) -> list[str | int]:
        """The id of a symbol; a token that is marked unused falls apart again."""
        if symbol in halves:
            return [piece for half in halves[symbol] for piece in self._resolve(half, halves)]
        return [self._ids.get(symbol, symbol)]


class _Unigram:
    """The split with the highest sum of log-probabilities (arXiv:1804.10959).

    Sums are rounded to single precision step by step, as the original does: splits of "ㅋㅋㅋㅋㅋ" into the same
    tokens in another order tie exactly, and its rounding decides.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = vocabulary.ids_of(TokenKind.NORMAL)
        normal = [vocabulary.scores[token_id] for token_id in self._ids.values()] or [0.0]
        self._unknown_score = _single(min(normal) - _UNKNOWN_PENALTY)
        self._scores = {text: vocabulary.scores[token_id] for text, token_id in self._ids.items()}
        for text, token_id in _marked(vocabulary.ids_of(TokenKind.USER_DEFINED)).items():
            self._ids[text] = token_id
            # Above every logarithm, and longer ones above shorter ones (sentencepiece 0.2.3).
            self._scores[text] = _single(0.1 * (len(text.encode()) - 1))
        self._lengths: dict[str, int] = {}
        for text in self._ids:
            self._lengths[text[0]] = max(len(text), self._lengths.get(text[0], 0))

    def split(self, text: str) -> list[str | int]:
        """Ids, and the characters that no token covers as they are."""
        size = len(text)
        best = [0.0] * (size + 1)
        begins = [-1] * (size + 1)
        scores = self._scores
        for start in range(size):
            so_far = best[start]
            for end in range(start + 1, min(size, start + self._lengths.get(text[start], 0)) + 1):
                score = scores.get(text[start:end])
                if score is None:
                    continue
                total = _single(so_far + score)
                if begins[end] < 0 or total > best[end]:
                    best[end], begins[end] = total, start
            if text[start] not in scores:
                unknown = _single(so_far + self._unknown_score)
                if begins[start + 1] < 0 or unknown > best[start + 1]:
                    best[start + 1], begins[start + 1] = unknown, start
        return self._walk_back(text, begins)

    def _walk_back(self, text: str, begins: list[int]) -> list[str | int]:
        pieces: list[str | int] = []
        end = len(text)
        while end > 0:
            piece = text[begins[end] : end]
            pieces.append(self._ids.get(piece, piece))
            end = begins[end]
        pieces.reverse()
        return pieces


def _marked(ids: dict[str, int]) -> dict[str, int]:
    """User-defined tokens as they look in normalized text; GGUF writes their spaces plainly."""
    return {text.replace(" ", SPACE_MARK): token_id for text, token_id in ids.items()}


def _single(value: float) -> float:
    """Rounded to 32 bits."""
    rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    return rounded
