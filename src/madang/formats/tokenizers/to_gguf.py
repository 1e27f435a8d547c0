"""A folder's tokenizer as ``tokenizer.ggml.*`` metadata: the way back of gguf.py beside it.

Which keys and which spelling: ggml-org/ggml docs/gguf.md, and what ggml-org/llama.cpp expects where that is silent.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer as Library

from madang.core.errors import CannotConvert, MalformedFile
from madang.formats.gguf_writing import ValueToWrite
from madang.formats.json_object import read_json_object
from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.bytepairs import word_splitter
from madang.formats.tokenizers.huggingface import MAX_JSON_BYTES
from madang.formats.tokenizers.pretokenizers import PreTokenizer, pretokenizer, pretokenizer_names
from madang.formats.tokenizers.sameness import SAMPLES, require_same_ids
from madang.formats.tokenizers.sentencepiece import byte_of_text
from madang.formats.tokenizers.tokenizer import tokenizer_from_gguf, tokenizer_from_json
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary, end_ids_by_text

_PREFIX: Final = "tokenizer.ggml."
_WORD_START: Final = "\u2581"
# Of rules that split alike, llama.cpp knows these by their own names.
_NAMES_OF_FAMILIES: Final[Mapping[str, str]] = {
    "exaone": "exaone",
    "exaone4": "exaone4",
    "starcoder2": "starcoder",
    "stablelm": "stablelm2",
    "phi": "phi-2",
    "falcon": "falcon",
}
_USUAL_NAMES: Final = ("llama-bpe", "qwen2", "gpt-2", "smollm", "command-r", "tekken", "gpt-4o", "dbrx", "falcon")


def gguf_tokenizer(folder: Path, n_rows: int, model_type: str) -> dict[str, ValueToWrite]:
    """The metadata of the tokenizer in ``folder``, for a model with ``n_rows`` token embeddings.

    Raises CannotConvert without a tokenizer.json, for a tokenizer that GGUF has no form for and for one that gives
    other ids in it, MalformedFile for one that does not fit the model.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CannotConvert(
            f"{folder} has no tokenizer.json",
            hint="transformers writes one: AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(FOLDER).",
        )
    tokenizer = tokenizer_from_json(folder)
    state = read_json_object(file, MAX_JSON_BYTES)
    if tokenizer.vocab_size > n_rows:
        raise MalformedFile(file, f"it has {tokenizer.vocab_size} tokens, but the model has {n_rows} embeddings")
    source = _Source(folder, state, tokenizer.vocabulary, n_rows, model_type)
    keys = {**source.algorithm(), **source.special_ids()}
    metadata: dict[str, ValueToWrite] = {_PREFIX + key: value for key, value in keys.items()}
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    written = CheckedMetadata(folder, {key: _plain(value) for key, value in metadata.items()})
    try:
        require_same_ids(tokenizer, tokenizer_from_gguf(written), "GGUF", source.samples())
    except MalformedFile as error:
        raise CannotConvert(f"as GGUF, its tokenizer would make no sense: {error.problem}") from error
    return metadata


def _plain(value: ValueToWrite) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class _Source:
    """A tokenizer.json and what was read from it."""

    def __init__(
        self, folder: Path, state: dict[str, Any], vocabulary: Vocabulary, n_rows: int, model_type: str
    ) -> None:
        self.folder = folder
        self.state = state
        self.vocabulary = vocabulary
        self.n_rows = n_rows
        self.model_type = model_type
        self.model: dict[str, Any] = state.get("model") or {}

    def algorithm(self) -> dict[str, ValueToWrite]:
        """The keys of its kind of tokenizer."""
        kind = self.model.get("type") or ("BPE" if "merges" in self.model else "?")
        if kind == "BPE":
            is_bytes = any(step.get("type") == "ByteLevel" for step in _steps(self.state.get("pre_tokenizer")))
            return self._byte_pairs() if is_bytes else self._scored_merges()
        if kind == "Unigram":
            return self._unigram()
        if kind == "WordPiece":
            return self._word_pieces()
        raise CannotConvert(f"GGUF has no tokenizers of kind '{kind:.40}'")

    # -- kinds

    def _byte_pairs(self) -> dict[str, ValueToWrite]:
        return {
            "model": "gpt2",
            "pre": self._rule_name(),
            **self._tokens(),
            "merges": [" ".join(m) for m in self._merges()],
        }

    def _scored_merges(self) -> dict[str, ValueToWrite]:
        """SentencePiece's scores are the ranks of merges: the earlier, the higher."""
        scores = np.full(self.n_rows, -1e6, np.float32)
        ids = {text: number for number, text in enumerate(self.vocabulary.texts)}
        for rank, (left, right) in reversed(list(enumerate(self._merges()))):
            if left + right in ids:
                scores[ids[left + right]] = -rank
        return {"model": "llama", "pre": "default", **self._tokens(scores), **self._normalizing()}

    def _unigram(self) -> dict[str, ValueToWrite]:
        scores = np.zeros(self.n_rows, np.float32)
        for number, (_, score) in enumerate(self.model["vocab"]):
            scores[number] = score
        return {"model": "t5", "pre": "default", **self._tokens(scores), **self._normalizing()}

    def _normalizing(self) -> dict[str, ValueToWrite]:
        """What SentencePiece does to a text before."""
        keys: dict[str, ValueToWrite] = {
            "add_space_prefix": self._adds_space(),
            "remove_extra_whitespaces": self._squeezes(),
        }
        rules = [step for step in _steps(self.state.get("normalizer")) if step.get("type") == "Precompiled"]
        if rules:
            keys["precompiled_charsmap"] = np.frombuffer(base64.b64decode(rules[0]["precompiled_charsmap"]), np.uint8)
        return keys

    def _word_pieces(self) -> dict[str, ValueToWrite]:
        """BERT marks what continues a word, GGUF what begins one."""
        keys = self._tokens()
        prefix = self.model.get("continuing_subword_prefix", "##")
        keys["tokens"] = [_begins(text, prefix) for text in self._texts()]
        normalizer = next((n for n in _steps(self.state.get("normalizer")) if n.get("type") == "BertNormalizer"), {})
        lowercase = bool(normalizer.get("lowercase", True))
        strips = normalizer.get("strip_accents")
        keys["normalizer.lowercase"] = lowercase
        keys["normalizer.strip_accents"] = lowercase if strips is None else bool(strips)
        return {"model": "bert", "pre": "default", **keys}

    # -- parts

    def _texts(self) -> list[str]:
        texts = [*self.vocabulary.texts, *[""] * (self.n_rows - len(self.vocabulary.texts))]
        return [text or f"[PAD{number}]" for number, text in enumerate(texts)]

    def _tokens(self, scores: Any = None) -> dict[str, ValueToWrite]:
        kinds = np.full(self.n_rows, int(TokenKind.UNUSED), np.int32)
        unknown_id = self._unknown_id()
        unknown = None if unknown_id is None else self.vocabulary.texts[unknown_id]
        for number, (text, kind) in enumerate(zip(self.vocabulary.texts, self.vocabulary.kinds, strict=True)):
            if text:
                kinds[number] = self._kind(text, kind, unknown)
        keys: dict[str, ValueToWrite] = {"tokens": self._texts(), "token_type": kinds}
        if scores is not None:
            keys["scores"] = scores
        return keys

    def _kind(self, text: str, kind: TokenKind, unknown: str | None) -> TokenKind:
        scored = self.model.get("type") != "WordPiece" and not self._is_bytes()
        if scored and text == unknown:
            return TokenKind.UNKNOWN
        falls_back = scored and bool(self.model.get("byte_fallback"))
        if falls_back and kind == TokenKind.NORMAL and byte_of_text(text) is not None:
            return TokenKind.BYTE
        return kind

    def _is_bytes(self) -> bool:
        return any(step.get("type") == "ByteLevel" for step in _steps(self.state.get("pre_tokenizer")))

    def _merges(self) -> Iterator[tuple[str, str]]:
        for merge in self.model.get("merges", []):
            left, _, right = merge.partition(" ") if isinstance(merge, str) else (merge[0], "", merge[1])
            if self._is_bytes() and (" " in left or " " in right):
                raise CannotConvert(f"its merge {left!r} + {right!r} has a space inside")
            yield left, right

    def _rule_name(self) -> str:
        library = Library.from_file(str(self.folder / "tokenizer.json"))
        own = ["a.x-4.0"] if "a.x-4.0" in self.folder.resolve().name.lower() else []
        family = _NAMES_OF_FAMILIES.get(self.model_type)
        names = [*own, *([family] if family else []), *_USUAL_NAMES, *pretokenizer_names()]
        matching = [name for name in dict.fromkeys(names) if _splits_alike(library, pretokenizer(name))]
        ignores = bool(self.model.get("ignore_merges", False))
        exact = [name for name in matching if pretokenizer(name).ignore_merges == ignores]
        if not matching:
            raise CannotConvert("no rule that GGUF has a name for splits words as its tokenizer does")
        return (exact or matching)[0]

    def _adds_space(self) -> bool:
        steps = [*_steps(self.state.get("normalizer")), *_steps(self.state.get("pre_tokenizer"))]
        return any(
            step.get("type") == "Prepend"
            or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
            for step in steps
        )

    def samples(self) -> list[str]:
        """Texts on which both forms have to agree.

        Metaspace has no second space for a text that begins with one. SentencePiece has, and so has every GGUF file.
        """
        normalizer = [step.get("type") for step in _steps(self.state.get("normalizer"))]
        is_lenient = self._adds_space() and "Prepend" not in normalizer
        return [text for text in SAMPLES if not (is_lenient and text.startswith(" "))]

    def _squeezes(self) -> bool:
        steps = [*_steps(self.state.get("normalizer")), *_steps(self.state.get("pre_tokenizer"))]
        return any(
            step.get("type") in ("WhitespaceSplit", "Strip")
            or (step.get("type") == "Replace" and "{2,}" in str(step.get("pattern")))
            for step in steps
        )

    # -- ids

    def _unknown_id(self) -> int | None:
        if self.vocabulary.unknown_id is not None:
            return self.vocabulary.unknown_id
        number, text = self.model.get("unk_id"), self.model.get("unk_token")
        if isinstance(number, int):
            return number
        return self.vocabulary.texts.index(text) if text in self.vocabulary.texts else None

    def special_ids(self) -> dict[str, ValueToWrite]:
        """Ids with a meaning, and what is added around every text."""
        known = self.vocabulary
        named = {"bos": known.bos_id, "eos": known.eos_id, "unknown": self._unknown_id()}
        named |= {"padding": self._named("pad"), "seperator": self._named("sep"), "cls": self._named("cls")}
        named["mask"] = self._named("mask")
        before, after = known.prefix_ids, known.suffix_ids
        if self.model.get("type") == "WordPiece":
            named["bos"] = named["cls"] = before[0] if before else named["cls"]
            named["eos"] = named["seperator"] = after[0] if after else named["seperator"]
        elif named["bos"] is None and before:
            named["bos"] = before[0]
        if before not in ((), (named["bos"],)) or after not in ((), (named["eos"],)):
            raise CannotConvert(f"its tokenizer adds the tokens {(*before, *after)} to a text, not just one at an end")
        others = known.end_ids - end_ids_by_text(known.ids_of(TokenKind.CONTROL)) - {named["eos"]}
        if others:
            named["eot"] = min(others)
        keys: dict[str, ValueToWrite] = {f"{name}_token_id": n for name, n in named.items() if n is not None}
        added = {"add_bos_token": bool(before), "add_eos_token": bool(after)}
        if known.between_ids:  # of two texts; where it is two tokens, one ends the first and one begins the second
            keys.setdefault("seperator_token_id", known.between_ids[-1])
            added["add_sep_token"] = len(known.between_ids) > 1
        return {**keys, **added}

    def _named(self, name: str) -> int | None:
        """The id of a token that the files beside tokenizer.json name."""
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            value = read_json_object(self.folder / file, MAX_JSON_BYTES).get(f"{name}_token")
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text in self.vocabulary.texts:
                return self.vocabulary.texts.index(text)
        return None


def _steps(state: object) -> list[dict[str, Any]]:
    """A normalizer's or pre-tokenizer's parts, sequences opened."""
    if not isinstance(state, dict):
        return []
    inner = state.get("normalizers") or state.get("pretokenizers")
    if isinstance(inner, list):
        return [step for part in inner for step in _steps(part)]
    return [state]


def _begins(text: str, prefix: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return text
    return text[len(prefix) :] if text.startswith(prefix) else _WORD_START + text


def _splits_alike(library: Library, rule: PreTokenizer) -> bool:
    """Whether a tokenizer.json prepares and splits every sample as the rule does."""
    import unicodedata

    ours = word_splitter(rule)
    for text in SAMPLES:
        expected = library.normalizer.normalize_str(text) if library.normalizer else text
        prepared = unicodedata.normalize("NFC", text) if rule.nfc else text
        if expected != prepared:
            return False
        found = library.pre_tokenizer.pre_tokenize_str(text) if library.pre_tokenizer else [(text, (0, 0))]
        if [piece for piece, _ in found] != [piece for piece, _ in ours.pre_tokenize_str(text)]:
            return False
    return True
