"""Tokenizers of every kind behind one face: text -> ids, id -> bytes.

    from GGUF metadata     byte-level BPE ("gpt2"), SentencePiece merges ("llama"), unigram ("t5"), WordPiece ("bert")
    from tokenizer.json    whatever the `tokenizers` library runs

Control tokens in text. A chat template writes control tokens as text, so a rendered prompt is encoded with
``parse_special=True``, and a message that says "<|im_end|>" would end its own turn. To keep what people, tools and
documents write from becoming control tokens:

    raw text (a document, a completion prompt)   encode(text, parse_special=False)
    a chat                                       template.render(messages, guard=tokenizer.guard), then encode_chat

``guard`` puts an invisible noncharacter into each control token of a text; the template's own stay whole, and encoding
drops the guards again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from madang.core.messages import well_formed
from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary

_HIDDEN = (TokenKind.CONTROL, TokenKind.UNKNOWN)


class TokenModel(Protocol):
    """The algorithm inside a tokenizer."""

    @property
    def leading_space(self) -> bool:
        """Whether a text begins with a space that nobody wrote, and decoding takes it away again."""

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of ``text`` alone, nothing added."""

    def guard(self, text: str) -> str:
        """``text`` with its control tokens disarmed."""

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The bytes that a token of this text and kind stands for."""


class Tokenizer:
    """One model's tokenizer. Any number of threads may use it."""

    __slots__ = ("_bytes", "_model", "vocabulary")

    def __init__(self, vocabulary: Vocabulary, model: TokenModel) -> None:
        self.vocabulary = vocabulary
        self._model = model
        self._bytes: list[bytes | None] = [None] * len(vocabulary.texts)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Ids of ``text``.

        add_special     put the tokens around it that the model expects (beginning of sequence, [CLS] … [SEP], none)
        parse_special   control tokens that are spelled out in the text count as such; False for untrusted text

        Surrogates that belong to no character are read as U+FFFD.
        """
        ids = self._model.encode(well_formed(text), parse_special=parse_special)
        return [*self.vocabulary.prefix_ids, *ids, *self.vocabulary.suffix_ids] if add_special else ids

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
        """Ids and token types of two texts as one; both come from ``encode`` without ``add_special``."""
        known = self.vocabulary
        before, after = [*known.prefix_ids, *first, *known.between_ids], [*second, *known.suffix_ids]
        return before + after, [0] * len(before) + [known.second_type] * len(after)

    def encode_chat(self, rendered: str) -> list[int]:
        """Ids of a rendered chat template: its control tokens count, the beginning is added unless it is there."""
        ids = self.encode(rendered, add_special=False)
        prefix = list(self.vocabulary.prefix_ids)
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    def guard(self, text: str) -> str:
        """``text`` with every control token broken up, for text that goes into a chat template (see above)."""
        return self._model.guard(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, perhaps part of a character; its text for a control token; none past the end.

        Models may have more outputs than their tokenizer has tokens, so an id past the end is no error.
        """
        if token_id >= len(self._bytes):
            return b""
        known = self._bytes[token_id]
        if known is None:
            text, kind = self.vocabulary.texts[token_id], self.vocabulary.kinds[token_id]
            known = self._bytes[token_id] = text.encode() if kind in _HIDDEN else self._model.token_bytes(text, kind)
        return known

    def token_text(self, token_id: int) -> str:
        """The token as the file writes it ("Ġworld", "▁world", "<|im_end|>"); empty past the end."""
        return self.vocabulary.texts[token_id] if token_id < self.vocab_size else ""

    def is_control(self, token_id: int) -> bool:
        """Whether the token is no part of any text: control tokens, the unknown token, and ids past the end."""
        return token_id >= self.vocab_size or self.vocabulary.kinds[token_id] in _HIDDEN

    def control_ids(self, *texts: str) -> dict[str, int]:
        """The ids of those of ``texts`` that are control tokens."""
        controls = self.vocabulary.ids_of(TokenKind.CONTROL)
        return {text: controls[text] for text in texts if text in controls}

    def knows(self, *texts: str) -> bool:
        """Whether each of ``texts`` is a control token."""
        return set(texts) <= self.vocabulary.ids_of(TokenKind.CONTROL).keys()

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids are below it."""
        return len(self.vocabulary.texts)

    @property
    def bos_id(self) -> int | None:
        """The beginning-of-sequence token."""
        return self.vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        """The end-of-sequence token."""
        return self.vocabulary.eos_id

    @property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends a generation: end of sequence, of turn, of message."""
        return self.vocabulary.end_ids

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template, a Jinja program that nobody has checked."""
        return self.vocabulary.chat_template

    @property
    def leading_space(self) -> bool:
        """Whether the first token of a text carries a space that nobody wrote."""
        return self._model.leading_space


def tokenizer_from_gguf(file: CheckedMetadata) -> Tokenizer:
    """The tokenizer in a GGUF file's ``tokenizer.`` metadata.

    Raises MalformedFile when it contradicts itself, UnsupportedModel (with the name) for an unknown kind of tokenizer
    or rule of word splitting.
    """
    from madang.formats.tokenizers.gguf import read_tokenizer

    return Tokenizer(*read_tokenizer(file))


def tokenizer_from_json(path: Path) -> Tokenizer:
    """The tokenizer in a Hugging Face folder, or in its ``tokenizer.json``; the files beside it are read as well.

    Raises ModelNotFound when there is none, MalformedFile when a file is damaged, UnsupportedModel for a kind that
    cannot be decoded.
    """
    from madang.formats.tokenizers.huggingface import read_tokenizer

    return Tokenizer(*read_tokenizer(path))
