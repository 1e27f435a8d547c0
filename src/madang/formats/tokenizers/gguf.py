"""Tokenizers from ``tokenizer.ggml.*`` metadata.

Keys and defaults: ggml-org/ggml docs/gguf.md, and what ggml-org/llama.cpp does where that is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.pretokenizers import pretokenizer
from madang.formats.tokenizers.tokenizer import TokenModel
from madang.formats.tokenizers.vocabulary import END_TEXTS, TokenKind, Vocabulary, end_ids_by_text

_PREFIX: Final = "tokenizer.ggml."
# Sums of a million scores must stay finite in single precision.
_MAX_SCORE: Final = 1e30
_KINDS: Final = {0: TokenKind.UNUSED, **{kind.value: kind for kind in TokenKind}}


def read_tokenizer(file: CheckedMetadata) -> tuple[Vocabulary, TokenModel]:
    """Vocabulary and algorithm of a GGUF file; errors as ``tokenizer_from_gguf``."""
    name = file.require_str(_PREFIX + "model")
    reader = _READERS.get(name)
    if reader is None:
        raise UnsupportedModel(f"tokenizers of kind '{name}' (tokenizer.ggml.model)")
    vocabulary = _read_tokens(file)
    return reader(file, vocabulary)


def _read_tokens(file: CheckedMetadata) -> Vocabulary:
    """Texts, kinds, template, and the ids that have the same meaning in every kind of tokenizer."""
    texts = file.require_strs(_PREFIX + "tokens")
    if not texts:
        raise MalformedFile(file.path, f"metadata '{_PREFIX}tokens' is empty")
    _refuse_duplicates(file, texts)
    kinds = _read_kinds(file, texts)
    vocabulary = Vocabulary(texts, kinds, chat_template=file.get_str("tokenizer.chat_template", None))
    eos = _id(file, vocabulary, "eos")
    ends = {eos, _id(file, vocabulary, "eot"), _id(file, vocabulary, "eom")} - {None}
    by_text = end_ids_by_text(vocabulary.ids_of(TokenKind.CONTROL))
    return replace(
        vocabulary,
        bos_id=_id(file, vocabulary, "bos"),
        eos_id=eos,
        unknown_id=_id(file, vocabulary, "unknown"),
        end_ids=by_text.union(token_id for token_id in ends if token_id is not None),
    )


def _refuse_duplicates(file: CheckedMetadata, texts: list[str]) -> None:
    if len(set(texts)) == len(texts):
        return
    first: dict[str, int] = {}
    for token_id, text in enumerate(texts):
        if text and first.setdefault(text, token_id) != token_id:
            raise MalformedFile(file.path, f"the tokens {first[text]} and {token_id} have the same text {text!r}")


def _read_kinds(file: CheckedMetadata, texts: list[str]) -> list[TokenKind]:
    numbers = file.get_ints(_PREFIX + "token_type", None, high=max(_KINDS))
    if numbers is None:
        kinds = [TokenKind.NORMAL] * len(texts)
    else:
        _check_length(file, "token_type", len(numbers), len(texts))
        kinds = [_KINDS[number] for number in numbers.tolist()]
    # Converters sometimes miss that the token which ends a turn is a control token.
    for token_id, text in enumerate(texts):
        if text in END_TEXTS and (kinds[token_id] == TokenKind.USER_DEFINED or text.startswith("<|")):
            kinds[token_id] = TokenKind.CONTROL
    return kinds


def _check_length(file: CheckedMetadata, key: str, length: int, n_tokens: int) -> None:
    if length != n_tokens:
        raise MalformedFile(file.path, f"metadata '{_PREFIX}{key}' has {length} entries for {n_tokens} tokens")


def _id(file: CheckedMetadata, vocabulary: Vocabulary, name: str, default: int | None = None) -> int | None:
    """A token id from the metadata; ``default`` when it is not there, None when that is past the end."""
    last = len(vocabulary.texts) - 1
    fallback = default if default is not None and default <= last else None
    return file.get_int(f"{_PREFIX}{name}_token_id", fallback, high=last)


def _with_added(file: CheckedMetadata, vocabulary: Vocabulary, *, add_bos: bool, add_eos: bool) -> Vocabulary:
    """The vocabulary with what ``add_special`` adds; the arguments hold where the metadata is silent."""
    around: list[tuple[int, ...]] = []
    for name, token_id, default in (("bos", vocabulary.bos_id, add_bos), ("eos", vocabulary.eos_id, add_eos)):
        wanted = file.get_bool(f"{_PREFIX}add_{name}_token", None)
        if wanted and token_id is None:
            raise MalformedFile(file.path, f"it wants a {name} token with every text, but has none")
        add = default if wanted is None else wanted
        around.append((token_id,) if add and token_id is not None else ())
    ends = vocabulary.end_ids if vocabulary.eos_id is None else vocabulary.end_ids | {vocabulary.eos_id}
    # Files do not say what stands between two texts. Of models that end a text with a token, RoBERTas read pairs.
    between = around[1] * 2
    return replace(vocabulary, prefix_ids=around[0], suffix_ids=around[1], between_ids=between, end_ids=ends)


def _read_byte_pairs(file: CheckedMetadata, vocabulary: Vocabulary) -> tuple[Vocabulary, TokenModel]:
    from madang.formats.tokenizers.bytepairs import BytePairs

    rule = pretokenizer(file.get_str(_PREFIX + "pre", "default"))
    merges = file.require_strs(_PREFIX + "merges")
    vocabulary = _with_added(file, vocabulary, add_bos=rule.add_bos, add_eos=False)
    return vocabulary, BytePairs(file.path, vocabulary, merges, rule)


def _read_merges(file: CheckedMetadata, vocabulary: Vocabulary) -> tuple[Vocabulary, TokenModel]:
    vocabulary = replace(
        vocabulary,
        bos_id=_id(file, vocabulary, "bos", 1),
        eos_id=_id(file, vocabulary, "eos", 2),
        unknown_id=_id(file, vocabulary, "unknown", 0),
    )
    vocabulary = _with_added(file, vocabulary, add_bos=True, add_eos=False)
    return _read_sentencepiece(file, vocabulary, unigram=False)


def _read_unigram(file: CheckedMetadata, vocabulary: Vocabulary) -> tuple[Vocabulary, TokenModel]:
    vocabulary = replace(
        vocabulary, eos_id=_id(file, vocabulary, "eos", 1), unknown_id=_id(file, vocabulary, "unknown", 2)
    )
    vocabulary = _with_added(file, vocabulary, add_bos=False, add_eos=True)
    return _read_sentencepiece(file, vocabulary, unigram=True)


def _read_sentencepiece(
    file: CheckedMetadata, vocabulary: Vocabulary, *, unigram: bool
) -> tuple[Vocabulary, TokenModel]:
    from madang.formats.tokenizers.normalizer import CharacterRules, Normalizer
    from madang.formats.tokenizers.sentencepiece import SentencePiece

    scores = file.get_floats(_PREFIX + "scores", None)
    if scores is None:
        raise MalformedFile(file.path, f"metadata '{_PREFIX}scores' is missing")
    _check_length(file, "scores", len(scores), len(vocabulary.texts))
    if np.abs(scores).max() > _MAX_SCORE:
        raise MalformedFile(file.path, f"metadata '{_PREFIX}scores' holds a number beyond ±{_MAX_SCORE:g}")
    rules = file.get_ints(_PREFIX + "precompiled_charsmap", None, low=-128, high=255)
    normalizer = Normalizer(
        CharacterRules(file.path, rules.astype(np.uint8).tobytes()) if rules is not None and len(rules) else None,
        add_space_prefix=file.get_bool(_PREFIX + "add_space_prefix", True),
        remove_extra_whitespace=file.get_bool(_PREFIX + "remove_extra_whitespaces", False),
    )
    vocabulary = replace(vocabulary, scores=scores.tolist())
    return vocabulary, SentencePiece(vocabulary, normalizer, unigram=unigram)


def _read_word_pieces(file: CheckedMetadata, vocabulary: Vocabulary) -> tuple[Vocabulary, TokenModel]:
    from madang.formats.tokenizers.wordpieces import WordPieces

    ids = vocabulary.ids_of(TokenKind.CONTROL, TokenKind.UNKNOWN, TokenKind.NORMAL)
    first = _id(file, vocabulary, "cls", vocabulary.bos_id if vocabulary.bos_id is not None else ids.get("[CLS]"))
    last = _id(file, vocabulary, "seperator", ids.get("[SEP]"))  # the specification's spelling
    unknown = _id(file, vocabulary, "unknown", ids.get("[UNK]"))
    if unknown is None:
        raise MalformedFile(file.path, "its WordPiece tokens have no unknown token")
    vocabulary = replace(
        vocabulary,
        unknown_id=unknown,
        prefix_ids=() if first is None else (first,),
        suffix_ids=() if last is None else (last,),
        between_ids=() if last is None else (last,),
        second_type=1,
    )
    lowercase = file.get_bool(_PREFIX + "normalizer.lowercase", None)
    strip_accents = file.get_bool(_PREFIX + "normalizer.strip_accents", None)
    return vocabulary, WordPieces(vocabulary, lowercase=lowercase, strip_accents=strip_accents)


_READERS: Final[dict[str, Callable[[CheckedMetadata, Vocabulary], tuple[Vocabulary, TokenModel]]]] = {
    "gpt2": _read_byte_pairs,
    "llama": _read_merges,
    "t5": _read_unigram,
    "bert": _read_word_pieces,
}
