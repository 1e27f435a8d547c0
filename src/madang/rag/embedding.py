"""Texts to vectors with an embedding model, as its publisher wants them, and only those that it can read.

A model that was trained on English makes a vector of Korean as well, and it means nothing. So a text in a script that
the catalog's languages of the model do not use gets no vector, and is found by its words alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from madang.core.engine import Embedder, TextTokenCounter
from madang.core.errors import InvalidRequest
from madang.models import Prefixes, load_catalog, parse_reference
from madang.rag.chunking import LEAST_BUDGET_TOKENS, CountTokens
from madang.rag.vectors import Vector

OpenEmbedder: TypeAlias = Callable[[str], AbstractContextManager[Embedder]]

DEFAULT_MODEL = "all-minilm:l6"
BATCH_TEXTS = 32
CHUNK_TOKENS = 320  # a chunk has at most so many, of which the model's context may leave fewer
HEADING_TOKENS = 40  # left for the prefix and the headings that are read with a chunk
_LEAST_TOKENS = LEAST_BUDGET_TOKENS + 4  # and what the model adds to any text

# Scripts by the first word of their letters' Unicode names, and who writes what; all other languages write Latin.
_SCRIPTS_OF = {
    "ko": {"HANGUL"},
    "zh": {"CJK"},
    "ja": {"HIRAGANA", "KATAKANA", "CJK"},
    "ru": {"CYRILLIC"},
    "ar": {"ARABIC"},
    "hi": {"DEVANAGARI"},
    "th": {"THAI"},
}
QUESTION_SHARE = 0.75  # of its letters: a Korean question with two English names in it is a Korean question
_LOOKED_AT = 2000  # characters of a text that its script is told by


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the catalog knows of an embedding model. ``scripts`` is None where its languages are not known."""

    prefixes: Prefixes = field(default_factory=Prefixes)
    scripts: frozenset[str] | None = None
    name: str = ""

    @classmethod
    def of(cls, model: str) -> ModelFacts:
        """Of a model by its reference. Raises InvalidReference."""
        reference = parse_reference(model)
        entry = load_catalog().find(reference)
        if entry is None or not entry.languages:
            return cls(entry.prefixes if entry else Prefixes(), None, str(reference))
        scripts = frozenset().union(*(_SCRIPTS_OF.get(language, {"LATIN"}) for language in entry.languages))
        return cls(entry.prefixes, scripts, str(reference))

    def can_read(self, text: str, least: float = 0.5) -> bool:
        """Whether that share of the letters is of scripts that the model has learnt; without letters, it can."""
        if self.scripts is None:
            return True
        known = [_script(letter) in self.scripts for letter in text[:_LOOKED_AT] if letter.isalpha()]
        return sum(known) >= least * len(known)


def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """About how many tokens a tokenizer that knows the script would take: 4 bytes of UTF-8 to one."""
    return [-(-len(text.encode("utf-8", "replace")) // 4) for text in texts]


def counter_of(embedder: Embedder, facts: ModelFacts, text: str) -> CountTokens:
    """How to measure the chunks of ``text``: as the model does, if it can read it and tells."""
    if isinstance(embedder, TextTokenCounter) and facts.can_read(text):
        return embedder.count_text_tokens
    return estimate_tokens


def chunk_budget(embedder: Embedder) -> int:
    """The most tokens of a chunk: small enough to be about one thing, and to be read whole with its headings."""
    return max(min(CHUNK_TOKENS, embedder.info.context_tokens - HEADING_TOKENS), _LEAST_TOKENS)


def embed_query(embedder: Embedder, facts: ModelFacts, query: str) -> Vector:
    """float32 [n_dimensions] of length 1. Raises ContextLengthExceeded where the model cannot count before."""
    return _embed(embedder, [_cut(embedder, facts.prefixes.query, query)])[0]


def embed_passages(embedder: Embedder, facts: ModelFacts, texts: Sequence[str]) -> Iterator[list[Vector | None]]:
    """The vectors of some texts at a time, in order; None for each that the model cannot read.

    Of a text that is longer than the model's context, the vector is that of its beginning.
    """
    for begin in range(0, len(texts), BATCH_TEXTS):
        batch = texts[begin : begin + BATCH_TEXTS]
        is_read = [facts.can_read(text) for text in batch]
        readable = [
            _cut(embedder, facts.prefixes.document, text)
            for text, is_known in zip(batch, is_read, strict=True)
            if is_known
        ]
        vectors = iter(_embed(embedder, readable) if readable else [])
        yield [next(vectors) if is_known else None for is_known in is_read]


def _cut(embedder: Embedder, prefix: str, text: str) -> str:
    """As much of the text as the model reads, after the prefix."""
    most = embedder.info.context_tokens
    while isinstance(embedder, TextTokenCounter) and (n := embedder.count_text_tokens([prefix + text])[0]) > most:
        text = text[: min(len(text) * most // n, len(text) - 1)]
    return prefix + text


def _embed(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    vectors = np.asarray(embedder.embed(texts).vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InvalidRequest(f"{embedder.info.model} gives vectors that are no numbers.", param="embedding_model")
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return list((vectors / lengths).astype(np.float32))
