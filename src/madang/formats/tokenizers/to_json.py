"""A GGUF file's tokenizer as the files of a Hugging Face folder: the way back of huggingface.py beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.bytepairs import byte_level_library
from madang.formats.tokenizers.normalizer import SPACE_MARK
from madang.formats.tokenizers.pretokenizers import pretokenizer
from madang.formats.tokenizers.sameness import require_same_ids
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_gguf, tokenizer_from_json
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary
from madang.formats.tokenizers.wordpieces import bert_spelling, is_lower_case

_PREFIX: Final = "tokenizer.ggml."
# What transformers calls a tokenizer that is all in its tokenizer.json, whatever the model's own class would do to it.
_CLASS: Final = "PreTrainedTokenizerFast"


def write_tokenizer(file: CheckedMetadata, folder: Path) -> Tokenizer:
    """Write tokenizer.json and the files beside it into ``folder``, and return the tokenizer that was written.

    Raises CannotConvert when the `tokenizers` library gives other ids than this tokenizer, and what
    ``tokenizer_from_gguf`` raises.
    """
    before = tokenizer_from_gguf(file)
    vocabulary = before.vocabulary
    library = _BUILDERS[file.require_str(_PREFIX + "model")](file, vocabulary)
    _add_tokens(library, vocabulary)
    state = json.loads(library.to_str())
    state["post_processor"] = _around(vocabulary)
    _write(folder / "tokenizer.json", state)
    _write(folder / "tokenizer_config.json", _config(file, vocabulary))
    if vocabulary.chat_template is not None:
        folder.joinpath("chat_template.jinja").write_text(vocabulary.chat_template, encoding="utf-8", newline="")
    after = tokenizer_from_json(folder)
    require_same_ids(before, after, "tokenizer.json")
    return after


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="")


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    return {text: number for number, text in enumerate(vocabulary.texts) if text}


def _byte_pairs(file: CheckedMetadata, vocabulary: Vocabulary) -> Library:
    rule = pretokenizer(file.get_str(_PREFIX + "pre", "default"))
    library = byte_level_library(file.path, vocabulary, file.require_strs(_PREFIX + "merges"), rule, with_control=True)
    library.decoder = decoders.ByteLevel()
    return library


def _merges(file: CheckedMetadata, vocabulary: Vocabulary) -> Library:
    ids = _ids(vocabulary)
    unknown = None if vocabulary.unknown_id is None else vocabulary.texts[vocabulary.unknown_id]
    has_bytes = TokenKind.BYTE in vocabulary.kinds
    pairs = list(_pairs(vocabulary, ids))
    library = Library(models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=has_bytes))
    adds_space = file.get_bool(_PREFIX + "add_space_prefix", True)
    library.normalizer = normalizers.Sequence([*_rules(file), *_marks(adds_space)])
    library.decoder = _mark_decoder(adds_space)
    return library


def _rules(file: CheckedMetadata) -> list[Any]:
    """What is done to the characters of a text before."""
    steps: list[Any] = []
    rules = file.get_ints(_PREFIX + "precompiled_charsmap", None, low=-128, high=255)
    if rules is not None and len(rules):
        steps.append(normalizers.Precompiled(rules.astype(np.uint8).tobytes()))
    if file.get_bool(_PREFIX + "remove_extra_whitespaces", False):
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    return steps


def _marks(adds_space: bool) -> list[Any]:
    """Spaces to marks, one more before the text where the model wants it."""
    before = [normalizers.Prepend(SPACE_MARK)] if adds_space else []
    return [*before, normalizers.Replace(" ", SPACE_MARK)]


def _mark_decoder(adds_space: bool) -> decoders.Decoder:
    """Marks to spaces, byte tokens to bytes, and without the space that nobody wrote."""
    steps = [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if adds_space else steps)


def _pairs(vocabulary: Vocabulary, ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    """All pairs of tokens that make a token, best score first; of equals, the order of their ids."""
    usable = (TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED)
    found: list[tuple[float, int, int, int, str, str]] = []
    for number, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True)):
        if kind not in usable:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                found.append((-vocabulary.scores[number], number, ids[left], ids[right], left, right))
    for *_, left, right in sorted(found):
        yield left, right


def _unigram(file: CheckedMetadata, vocabulary: Vocabulary) -> Library:
    pieces = list(zip(vocabulary.texts, map(float, vocabulary.scores), strict=True))
    has_bytes = TokenKind.BYTE in vocabulary.kinds
    library = Library(models.Unigram(pieces, unk_id=vocabulary.unknown_id, byte_fallback=has_bytes))
    adds_space = file.get_bool(_PREFIX + "add_space_prefix", True)
    library.normalizer = normalizers.Sequence([*_rules(file), *_marks(adds_space)])
    library.decoder = _mark_decoder(adds_space)
    return library


def _word_pieces(file: CheckedMetadata, vocabulary: Vocabulary) -> Library:
    ids = {
        bert_spelling(text, kind): number
        for number, (text, kind) in enumerate(zip(vocabulary.texts, vocabulary.kinds, strict=True))
        if text
    }
    unknown = vocabulary.texts[vocabulary.unknown_id or 0]
    library = Library(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=100))
    lowercase = file.get_bool(_PREFIX + "normalizer.lowercase", is_lower_case(vocabulary))
    strips = file.get_bool(_PREFIX + "normalizer.strip_accents", None)
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strips)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    return library


_BUILDERS: Final[dict[str, Callable[[CheckedMetadata, Vocabulary], Library]]] = {
    "gpt2": _byte_pairs,
    "llama": _merges,
    "t5": _unigram,
    "bert": _word_pieces,
}


def _add_tokens(library: Library, vocabulary: Vocabulary) -> None:
    """Tokens that are found by their spelling, special ones first seen as such."""
    for text, kind in zip(vocabulary.texts, vocabulary.kinds, strict=True):
        if kind in (TokenKind.CONTROL, TokenKind.UNKNOWN) and text:
            library.add_special_tokens([AddedToken(text, special=True, normalized=False)])
        elif kind == TokenKind.USER_DEFINED and text:
            # A space is a mark only once the text is normalized.
            library.add_tokens([AddedToken(text, special=False, normalized=SPACE_MARK in text)])


def _around(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """What is put before and after a text, and between two."""
    added = {*vocabulary.prefix_ids, *vocabulary.suffix_ids}
    if not added:
        return None

    def special(number: int, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": vocabulary.texts[number], "type_id": type_id}}

    def text(name: str, before: Sequence[int], after: Sequence[int], type_id: int) -> list[dict[str, Any]]:
        words = {"Sequence": {"id": name, "type_id": type_id}}
        return [*(special(n, type_id) for n in before), words, *(special(n, type_id) for n in after)]

    single = text("A", vocabulary.prefix_ids, vocabulary.suffix_ids, 0)
    first = text("A", vocabulary.prefix_ids, vocabulary.between_ids, 0)
    second = text("B", (), vocabulary.suffix_ids, vocabulary.second_type)
    named = {vocabulary.texts[number]: number for number in added}
    tokens = {text: {"id": text, "ids": [number], "tokens": [text]} for text, number in named.items()}
    return {"type": "TemplateProcessing", "single": single, "pair": [*first, *second], "special_tokens": tokens}


def _config(file: CheckedMetadata, vocabulary: Vocabulary) -> dict[str, Any]:
    last = len(vocabulary.texts) - 1
    ids = {"bos_token": vocabulary.bos_id, "eos_token": vocabulary.eos_id, "unk_token": vocabulary.unknown_id}
    for name, key in (("pad", "padding"), ("sep", "seperator"), ("cls", "cls"), ("mask", "mask")):
        ids[f"{name}_token"] = file.get_int(f"{_PREFIX}{key}_token_id", None, high=last)
    config: dict[str, Any] = {"tokenizer_class": _CLASS, "clean_up_tokenization_spaces": False}
    config |= {name: vocabulary.texts[number] for name, number in ids.items() if number is not None}
    if file.require_str(_PREFIX + "model") != "bert":
        if vocabulary.bos_id is not None:
            config["add_bos_token"] = vocabulary.bos_id in vocabulary.prefix_ids
        if vocabulary.eos_id is not None:
            config["add_eos_token"] = vocabulary.eos_id in vocabulary.suffix_ids
    return config
