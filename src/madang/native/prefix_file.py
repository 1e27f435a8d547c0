"""A computed prefix on disk: a system prompt or a set of documents that is warm before the first request.

    magic "madangkv" · version · length of the facts · facts (JSON) · tokens (int32) · pages · BLAKE2b of all before

Numbers are little-endian. Pages are the same on every instruction set, so a file may come from another machine, but
only from the same model.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidPrefix
from madang.formats.spec import ModelDescription
from madang.hardware import PageGroups
from madang.native.pages import PAGE_TOKENS, pages_for

VERSION = 2
_MAGIC = b"madangkv"
_HEAD = struct.Struct("<8sII")
_MAX_FACTS_BYTES = 4096
_DIGEST_BYTES = 32
_SAMPLE_BYTES = 256  # of each tensor

Page = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PrefixFacts:
    """What pages belong to.

    model        fingerprint: the shape, and of each tensor name, type, size and first bytes
    kv_type      how keys and values are kept
    first_held   the first column of which there are pages of window groups (native/page_table.py)
    """

    model: str
    kv_type: str
    page_bytes: int
    n_tokens: int = 0
    first_held: int = 0


def fingerprint(description: ModelDescription) -> str:
    """Tells models apart, their fine-tunes included, without reading all of their weights."""
    digest = hashlib.blake2b(repr(description.spec).encode(), digest_size=16)
    for name, tensor in sorted(description.tensors.items()):
        begin, end = tensor.file_range
        digest.update(f"{name} {int(tensor.type)} {tensor.shape}".encode())
        with tensor.path.open("rb") as file:
            file.seek(begin)
            digest.update(file.read(min(end - begin, _SAMPLE_BYTES)))
    return digest.hexdigest()


def write_prefix(path: Path, facts: PrefixFacts, tokens: Sequence[int], pages: Sequence[Page]) -> None:
    """Write the whole file or nothing: an interrupted run leaves what was there before. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for part in _parts(facts, tokens, pages):
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def read_prefix(path: Path, expected: PrefixFacts, groups: PageGroups) -> tuple[PrefixFacts, list[int], list[Page]]:
    """The facts, tokens and pages of a file. ``expected`` and ``groups`` are those of the model that is to use them.

    Raises InvalidPrefix when the file is none, is damaged, or belongs to another model; OSError.
    """
    if not path.is_file():
        raise InvalidPrefix(path, "there is no such file")
    data = path.read_bytes()
    if len(data) < _HEAD.size + _DIGEST_BYTES or not data.startswith(_MAGIC):
        raise InvalidPrefix(path, "it is none, or cut off")
    _, version, n_facts = _HEAD.unpack_from(data)
    if version != VERSION:
        raise InvalidPrefix(path, f"it has version {version}, and this madang reads version {VERSION}")
    if hashlib.blake2b(data[:-_DIGEST_BYTES], digest_size=_DIGEST_BYTES).digest() != data[-_DIGEST_BYTES:]:
        raise InvalidPrefix(path, "it is damaged or cut off: its checksum does not match")
    body = _HEAD.size + n_facts
    facts = _facts(path, data[_HEAD.size : body])
    if (facts.model, facts.kv_type, facts.page_bytes) != (expected.model, expected.kv_type, expected.page_bytes):
        raise InvalidPrefix(path, "it was saved from another model, or with another kind of cache")
    n_pages = groups.held_pages(pages_for(facts.n_tokens), facts.first_held)
    if (
        n_facts > _MAX_FACTS_BYTES
        or facts.first_held > groups.first_seen(facts.n_tokens)
        or len(data) != body + 4 * facts.n_tokens + n_pages * facts.page_bytes + _DIGEST_BYTES
    ):
        raise InvalidPrefix(path, "its parts do not add up to its size")
    tokens: list[int] = np.frombuffer(data, "<i4", facts.n_tokens, body).tolist()
    pages = np.frombuffer(data, np.uint8, n_pages * facts.page_bytes, body + 4 * facts.n_tokens)
    return facts, tokens, list(pages.reshape(n_pages, facts.page_bytes))


def _parts(facts: PrefixFacts, tokens: Sequence[int], pages: Sequence[Page]) -> Iterator[bytes]:
    text = json.dumps(asdict(facts)).encode()
    yield _HEAD.pack(_MAGIC, VERSION, len(text))
    yield text
    yield np.array(tokens, "<i4").tobytes()
    for page in pages:
        yield page.tobytes()


def _facts(path: Path, text: bytes) -> PrefixFacts:
    try:
        facts = PrefixFacts(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise InvalidPrefix(path, "its facts cannot be read") from error
    if not isinstance(facts.n_tokens, int) or not 0 < facts.n_tokens <= 2**31 - PAGE_TOKENS:
        raise InvalidPrefix(path, "its number of tokens makes no sense")
    if not isinstance(facts.first_held, int) or facts.first_held < 0:
        raise InvalidPrefix(path, "its first page of window layers makes no sense")
    return facts
