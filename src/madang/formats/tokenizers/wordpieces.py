"""WordPiece (BERT and most encoders since): words at spaces and punctuation, the longest known piece first."""

from __future__ import annotations

import re

from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from madang.formats.tokenizers.specials import SpecialTokens
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary

# GGUF turns BERT's spelling around: pieces that begin a word carry this mark, those inside a word lose their "##".
_WORD_START = "\u2581"
_CONTINUES = "##"
_UPPER_CASE = re.compile(_WORD_START + "[A-Z]")


class WordPieces:
    """One WordPiece vocabulary, ready to encode. Immutable, any number of threads may use it."""

    leading_space = True

    def __init__(
        self, vocabulary: Vocabulary, *, lowercase: bool | None = None, strip_accents: bool | None = None
    ) -> None:
        """``vocabulary`` is spelled as GGUF does it and has an unknown token.

        lowercase      None finds out: a vocabulary without capitals is for lower-cased text
        strip_accents  None does what ``lowercase`` does, as BERT itself
        """
        if lowercase is None:
            lowercase = is_lower_case(vocabulary)
        self._specials = SpecialTokens(vocabulary)
        ids = {
            bert_spelling(text, kind): token_id
            for token_id, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True))
            if text
        }
        unknown = vocabulary.texts[vocabulary.unknown_id or 0]
        self._library = LibraryTokenizer(WordPiece(ids, unk_token=unknown, max_input_chars_per_word=100))
        self._library.normalizer = BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        self._library.pre_tokenizer = BertPreTokenizer()

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of ``text``; control tokens in it count when ``parse_special``."""
        return self._specials.encode(text, self._encode_plain, parse_special=parse_special)

    def guard(self, text: str) -> str:
        """``text`` with its control tokens disarmed."""
        return self._specials.guard(text)

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The bytes that a token stands for, a space before each word."""
        return (text.replace(_WORD_START, " ") if kind == TokenKind.NORMAL else text).encode()

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids


def is_lower_case(vocabulary: Vocabulary) -> bool:
    """Whether no piece begins with a capital."""
    return not any(map(_UPPER_CASE.match, vocabulary.texts))


def bert_spelling(text: str, kind: TokenKind) -> str:
    """GGUF's spelling of a piece back in BERT's: "▁word" -> "word", "ing" -> "##ing"; "[CLS]" stays."""
    if text.startswith(_WORD_START):
        return text[1:]
    if kind in (TokenKind.CONTROL, TokenKind.UNKNOWN) or (text.startswith("[") and text.endswith("]")):
        return text
    return _CONTINUES + text
