"""How models cut a text into tokens, from their tokenizers alone: no weights are read.

reference -> tokenizer (in the store, or fetched alone) -> :func:`cut` -> :class:`Cut`, side by side
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias, get_args

from madang.core.errors import ModelNotFound, NetworkUnavailable
from madang.core.settings import Settings
from madang.formats.folder import trained_tokens
from madang.formats.gguf import read_gguf
from madang.formats.tokenizers import Tokenizer, tokenizer_from_gguf, tokenizer_from_json
from madang.formats.tokenizers.spans import token_spans
from madang.models import (
    HubReference,
    ModelFiles,
    NameReference,
    OllamaReference,
    Store,
    UrlReference,
    load_catalog,
    parse_reference,
)
from madang.models.headers import header_files
from madang.runtime.open import find_files

MOST_KEPT: Final = 8  # tokenizers; one of 250,000 tokens takes about 100 MB

Script: TypeAlias = Literal["korean", "english"]
SCRIPTS: Final[tuple[Script, ...]] = get_args(Script)
# Syllables, letters for them, and those letters' older forms.
_HANGUL: Final = ((0xAC00, 0xD7A3), (0x3131, 0x318E), (0x1100, 0x11FF), (0xA960, 0xA97C), (0xD7B0, 0xD7FB))


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text.

    text    what it stands for; bytes that are no whole characters as <0xED>
    start   begin and end in characters of the text; tokens that are parts of one character share it
    """

    id: int
    text: str
    start: int
    end: int
    is_control: bool


@dataclass(frozen=True, slots=True)
class OpenedTokenizer:
    """A model's tokenizer and what else its header says. ``context_tokens`` is what it was trained for, or None."""

    name: str
    tokenizer: Tokenizer
    context_tokens: int | None


@dataclass(frozen=True)
class Cut:
    """A text in one model's tokens."""

    model: OpenedTokenizer
    text: str
    tokens: tuple[Token, ...]

    @property
    def tokens_per_character(self) -> float | None:
        """None without a character."""
        return len(self.tokens) / len(self.text) if self.text else None

    @property
    def context_share(self) -> float | None:
        """Of the model's context that the text fills; None where that is unknown."""
        return len(self.tokens) / self.model.context_tokens if self.model.context_tokens else None

    @cached_property
    def by_script(self) -> dict[str, float]:
        """Tokens per letter of each script that the text has letters of.

        A token counts for the script that most of its letters are of: between words, blanks and marks go along.
        """
        letters = dict.fromkeys(SCRIPTS, 0)
        for character in self.text:
            if (script := script_of(character)) is not None:
                letters[script] += 1
        counts = dict.fromkeys(SCRIPTS, 0)
        for token in self.tokens:
            found = [script for script in map(script_of, self.text[token.start : token.end]) if script is not None]
            if found:
                counts[max(SCRIPTS, key=found.count)] += 1
        return {script: counts[script] / n for script, n in letters.items() if n}


def script_of(character: str) -> Script | None:
    """Of a letter: Hangul is Korean, and Latin letters without accents are English; None for all else."""
    code = ord(character)
    if any(low <= code <= high for low, high in _HANGUL):
        return "korean"
    return "english" if character.isascii() and character.isalpha() else None


def cut(model: OpenedTokenizer, text: str, *, special: bool = False) -> Cut:
    """The tokens of a text alone. ``special`` adds those that the model expects around it, and lets control tokens
    that are spelled out count as such."""
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text, add_special=False, parse_special=special)
    spans = token_spans(tokenizer, text, ids)
    before, after = (tokenizer.vocabulary.prefix_ids, tokenizer.vocabulary.suffix_ids) if special else ((), ())
    placed = [
        *((token_id, (0, 0)) for token_id in before),
        *zip(ids, spans, strict=True),
        *((token_id, (len(text), len(text))) for token_id in after),
    ]
    return Cut(model, text, tuple(Token(i, _shown(tokenizer, i), *span, tokenizer.is_control(i)) for i, span in placed))


def open_tokenizer(reference: str, settings: Settings) -> OpenedTokenizer:
    """The tokenizer of a model, on this machine or fetched alone: a GGUF header, or the small files of a folder.

    Raises InvalidReference, ModelNotFound, NetworkUnavailable when it would have to be fetched and cannot be,
    MalformedFile, UnsupportedModel, and what sources raise.
    """
    with _files(reference, settings) as files:
        if files.format == "gguf":
            gguf = read_gguf(files.path)
            context_tokens = gguf.get_int(f"{gguf.architecture}.context_length", None)
            return OpenedTokenizer(files.name, tokenizer_from_gguf(gguf), context_tokens)
        return OpenedTokenizer(files.name, tokenizer_from_json(files.path), trained_tokens(files.path))


class Tokenizers:
    """Tokenizers that were opened lately, for any number of threads; a file that changed is read again."""

    def __init__(self, settings: Settings, most: int = MOST_KEPT) -> None:
        self._settings, self._most = settings, most
        self._kept: OrderedDict[tuple[object, ...], Future[OpenedTokenizer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, reference: str) -> OpenedTokenizer:
        """See :func:`open_tokenizer`. It is read once, however many ask; what failed is tried again."""
        files = Store(self._settings.home).find(parse_reference(reference))
        key = (reference,) if files is None else (files.path, files.size_bytes, files.modified)
        with self._lock:
            known = self._kept.get(key)
            opening = Future[OpenedTokenizer]() if known is None else known
            self._kept[key] = opening
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if known is None:
            try:
                opening.set_result(open_tokenizer(reference, self._settings))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                opening.set_exception(error)
        return opening.result()


@contextmanager
def _files(reference: str, settings: Settings) -> Iterator[ModelFiles]:
    parsed, store = parse_reference(reference), Store(settings.home)
    if store.find(parsed) is not None:
        yield find_files(reference, store)
        return
    entry = load_catalog().find(parsed) if isinstance(parsed, NameReference) else None
    source = parsed if entry is None else entry.source
    if not isinstance(source, HubReference | OllamaReference | UrlReference):
        if entry is not None:
            raise ModelNotFound(
                reference, hint=f"Its tokenizer cannot be fetched alone. Get it with: madang pull {parsed}"
            )
        yield find_files(reference, store)
        return
    if settings.offline:
        raise NetworkUnavailable(
            f"The tokenizer of {parsed} is not on this machine, and madang is set to fetch nothing (offline).",
            hint="Unset 'offline', or choose a model that is here: madang list",
        )
    with header_files(
        source, registry=settings.ollama_registry, endpoint=settings.hf_endpoint, tokenizer=True
    ) as files:
        yield files if entry is None else replace(files, name=str(parsed))


def _shown(tokenizer: Tokenizer, token_id: int) -> str:
    data = tokenizer.token_bytes(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in data)
