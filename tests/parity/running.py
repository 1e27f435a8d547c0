"""Drives the C++ core directly: files to decoders, tokens to logits, with the cache laid out by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from madang.hardware import Choice, Plan
from madang.native.loader import load_decoder

PAGE_TOKENS = _core.PAGE_TOKENS
Logits = npt.NDArray[np.float32]  # [tokens, words]


def open_decoder(path: Path, *, n_threads: int = 2, isa: str = "auto", precision: str = "exact") -> _core.Decoder:
    """The model of a GGUF file."""
    return decoder_of(describe_gguf(read_gguf(path)), n_threads=n_threads, isa=isa, precision=precision)


def decoder_of(
    description: ModelDescription, *, n_threads: int = 1, isa: str = "auto", precision: str = "exact"
) -> _core.Decoder:
    """A described model, loaded."""
    threads, context = Choice(n_threads, "test"), Choice(1024, "test")
    plan = Plan(threads, context, isa=Choice(isa, "test"), precision=Choice(precision, "test"))
    return load_decoder(description.spec.architecture, description, plan)


def read(
    decoder: _core.Decoder,
    tokens: Sequence[int],
    chunks: Iterable[int] = (),
    *,
    start: int = 0,
    pages: Sequence[int] | None = None,
    long_rope: bool = False,
    hidden: bool = False,
) -> Logits:
    """Logits after each of ``tokens``, which stand at ``start`` and after; those before are in the cache.

    chunks     how many tokens each step takes; the last step takes the rest
    pages      of the cache, in the order of positions; as many as are needed, from the first, if not given
    long_rope  whether the frequencies of long sequences are used
    hidden     what logits are made of in place of them, [tokens, n_embd]
    """
    end = start + len(tokens)
    table = np.array([pages if pages is not None else range(-(-end // PAGE_TOKENS))], np.int32)
    decoder.reserve_pages(int(table.max()) + 1)
    rows: list[Logits] = []
    begin = 0
    for size in (*chunks, len(tokens)):
        piece = np.array(tokens[begin : begin + size], np.int32)
        n = len(piece)
        if n == 0:
            break
        positions = np.arange(start + begin, start + begin + n, dtype=np.int32)
        zeros, outputs = np.zeros(n, np.int32), np.arange(n, dtype=np.int32)
        is_long = np.array([1], np.int32) if long_rope else None
        decoder.step(piece, positions, zeros, table, outputs, wants_logits=not hidden, long_rope=is_long)
        rows += [decoder.hidden(row) if hidden else decoder.logits(row) for row in range(n)]
        begin += n
    return np.stack(rows)


def greedy(decoder: _core.Decoder, prompt: Sequence[int], n_tokens: int) -> list[int]:
    """The most likely continuation, one token a step."""
    tokens = list(prompt)
    logits = read(decoder, tokens)[-1]
    for _ in range(n_tokens):
        tokens.append(int(logits.argmax()))
        logits = read(decoder, tokens[-1:], start=len(tokens) - 1)[-1]
    return tokens[len(prompt) :]
