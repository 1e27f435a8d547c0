"""Tokenizers from a Hugging Face folder: tokenizer.json, and the settings that stand in the files beside it.

tokenizer.json             the tokenizer itself; the `tokenizers` library runs it
tokenizer_config.json      names of special tokens, whether beginning and end are added, chat template
special_tokens_map.json    names of special tokens, in older models
generation_config.json     ids that end a generation
chat_template.jinja        the chat template, in newer models
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer as Library
from tokenizers.normalizers import Replace
from tokenizers.normalizers import Sequence as Steps

from madang.core.errors import MalformedFile, ModelNotFound, UnsupportedModel
from madang.formats.json_object import read_json_object, read_text
from madang.formats.tokenizers.bytepairs import bytes_of_letters
from madang.formats.tokenizers.normalizer import SPACE_MARK
from madang.formats.tokenizers.sentencepiece import byte_of_text
from madang.formats.tokenizers.specials import GUARD, LiteralFinder, guard_literals
from madang.formats.tokenizers.tokenizer import TokenModel
from madang.formats.tokenizers.vocabulary import TokenKind, Vocabulary, end_ids_by_text

MAX_JSON_BYTES: Final = 512 * 2**20
MAX_TOKENS: Final = 2**22


class LibraryModel:
    """A tokenizer.json as it is. Any number of threads may use it."""

    def __init__(self, file: Path, source: str, library: Library, vocabulary: Vocabulary) -> None:
        """``source`` is the content of ``file``, and ``library`` was made from it."""
        self._file = file
        self._source = source
        self._library = library
        self._control = LiteralFinder(vocabulary.ids_of(TokenKind.CONTROL))
        self._to_bytes, self.leading_space = _decoder(library)

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of ``text``; control tokens in it count when ``parse_special``. MalformedFile when the library fails."""
        with _library_failures(self._file):
            if not parse_special:
                library, text = self._plain, text.replace(GUARD, "")
            else:
                library = self._guarded if GUARD in text else self._library
            ids: list[int] = library.encode(text, add_special_tokens=False).ids
        return ids

    def guard(self, text: str) -> str:
        """``text`` with its control tokens disarmed."""
        return guard_literals(text, self._control)

    def token_bytes(self, text: str, kind: TokenKind) -> bytes:
        """The bytes that a token stands for; added tokens stand for their text."""
        return text.encode() if kind == TokenKind.USER_DEFINED else self._to_bytes(text)

    # The library finds control tokens itself, and what it does before and after depends on them. So the two other ways
    # to encode are the same tokenizer with one setting changed, made when they are first needed.

    @cached_property
    def _plain(self) -> Library:
        """Control tokens in the text are letters like any others."""
        library = _parse(self._source)
        library.encode_special_tokens = True
        return library

    @cached_property
    def _guarded(self) -> Library:
        """Guards disappear, after they have kept control tokens from being seen."""
        library = _parse(self._source)
        drop_guards = Replace(GUARD, "")
        library.normalizer = Steps([drop_guards, library.normalizer]) if library.normalizer else drop_guards
        return library


def read_tokenizer(path: Path) -> tuple[Vocabulary, TokenModel]:
    """Vocabulary and algorithm of a folder or tokenizer.json; errors as ``tokenizer_from_json``."""
    file = path / "tokenizer.json" if path.is_dir() else path
    folder = file.parent
    if not file.is_file():
        raise ModelNotFound(
            str(file), hint="The native engine reads tokenizer.json; older models have only vocabularies."
        )
    source = _read_text(file)
    settings = _read_settings(folder)
    with _library_failures(file):
        library = _parse(source)
        added = _added_around(library)
        between, second_type = _added_between(library)
    vocabulary = _vocabulary(file, library, settings)
    vocabulary = replace(
        vocabulary,
        prefix_ids=_around(settings.get("add_bos_token"), vocabulary.bos_id, added[0]),
        suffix_ids=_around(settings.get("add_eos_token"), vocabulary.eos_id, added[1]),
        between_ids=between,
        second_type=second_type,
        end_ids=vocabulary.end_ids | _generation_ends(folder, len(vocabulary.texts)),
        chat_template=_chat_template(folder, settings),
    )
    return vocabulary, LibraryModel(file, source, library, vocabulary)


@contextmanager
def _library_failures(file: Path) -> Iterator[None]:
    """The library has no exception type of its own, and for some damage its Rust code panics."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise MalformedFile(file, f"the tokenizers library refuses it ({error})") from None
        raise


def _parse(source: str) -> Library:
    library = Library.from_str(source)
    # Some models ship the settings of their training: texts cut at 128 tokens, or padded to them.
    library.no_truncation()
    library.no_padding()
    return library


def _read_text(file: Path) -> str:
    return read_text(file, MAX_JSON_BYTES)


def _read_object(file: Path) -> dict[str, Any]:
    return read_json_object(file, MAX_JSON_BYTES)


def _read_settings(folder: Path) -> dict[str, Any]:
    return {**_read_object(folder / "special_tokens_map.json"), **_read_object(folder / "tokenizer_config.json")}


def _vocabulary(file: Path, library: Library, settings: Mapping[str, Any]) -> Vocabulary:
    ids = library.get_vocab(with_added_tokens=True)
    n_tokens = max(ids.values(), default=-1) + 1
    if n_tokens > MAX_TOKENS:
        raise MalformedFile(file, f"it has a token with the id {n_tokens - 1}; at most {MAX_TOKENS} tokens are allowed")
    texts = [""] * n_tokens
    for text, token_id in ids.items():
        texts[token_id] = text
    kinds = [TokenKind.NORMAL] * n_tokens
    for token_id, token in library.get_added_tokens_decoder().items():
        texts[token_id] = token.content
        kinds[token_id] = TokenKind.CONTROL if token.special else TokenKind.USER_DEFINED
    eos_id = _named_id(library, settings, "eos_token")
    vocabulary = Vocabulary(
        texts,
        kinds,
        bos_id=_named_id(library, settings, "bos_token"),
        eos_id=eos_id,
        unknown_id=_named_id(library, settings, "unk_token"),
    )
    ends = end_ids_by_text(vocabulary.ids_of(TokenKind.CONTROL))
    return replace(vocabulary, end_ids=ends if eos_id is None else ends | {eos_id})


def _named_id(library: Library, settings: Mapping[str, Any], name: str) -> int | None:
    """The id of ``"eos_token": "</s>"`` or ``"eos_token": {"content": "</s>", …}``."""
    value = settings.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    return library.token_to_id(text) if isinstance(text, str) else None


def _added_around(library: Library) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the file's own post-processor puts before and after a text."""
    bare = library.encode("a", add_special_tokens=False).ids
    full = library.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    return (), ()


def _added_between(library: Library) -> tuple[tuple[int, ...], int]:
    """What it puts between two texts, and the token type of the second."""
    pair = library.encode("a", "b", add_special_tokens=True)
    parts = pair.sequence_ids
    if 0 not in parts or 1 not in parts:
        return (), 0
    second = parts.index(1)
    between = pair.ids[len(parts) - parts[::-1].index(0) : second]
    return tuple(between), pair.type_ids[second]


def _around(wanted: object, token_id: int | None, found: tuple[int, ...]) -> tuple[int, ...]:
    """``add_bos_token`` and ``add_eos_token`` of tokenizer_config.json win over the post-processor."""
    if not isinstance(wanted, bool) or token_id is None:
        return found
    return (token_id,) if wanted else tuple(other for other in found if other != token_id)


def _generation_ends(folder: Path, n_tokens: int) -> frozenset[int]:
    value = _read_object(folder / "generation_config.json").get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return frozenset(token_id for token_id in ids if type(token_id) is int and 0 <= token_id < n_tokens)


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file)
    value = settings.get("chat_template")
    if isinstance(value, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _decoder(library: Library) -> tuple[Callable[[str], bytes], bool]:
    """How a token's text becomes bytes, and whether a decoded text loses a leading space."""
    steps = _decoder_steps(library)
    kinds = [step.get("type") for step in steps]
    if "ByteLevel" in kinds:
        return bytes_of_letters, False
    if "WordPiece" in kinds:
        prefix = str(steps[kinds.index("WordPiece")].get("prefix", "##"))
        return lambda text: (text[len(prefix) :] if text.startswith(prefix) else " " + text).encode(), True
    strips = any(step.get("type") == "Strip" and step.get("start") == 1 for step in steps)
    prepends = any(step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never" for step in steps)
    if "BPEDecoder" in kinds or "CTC" in kinds:
        raise UnsupportedModel(f"tokenizers whose decoder is '{'+'.join(map(str, kinds))}' (tokenizer.json)")
    return _decode_marks, strips or prepends


def _decoder_steps(library: Library) -> list[dict[str, Any]]:
    if library.decoder is None:
        return []
    state = json.loads(library.decoder.__getstate__())
    return list(state["decoders"]) if state.get("type") == "Sequence" else [state]


def _decode_marks(text: str) -> bytes:
    byte = byte_of_text(text)
    return text.replace(SPACE_MARK, " ").encode() if byte is None else bytes([byte])
