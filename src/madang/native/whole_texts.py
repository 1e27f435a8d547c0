"""Whole texts in one forward step, as encoders read them. Texts that share a step do not see each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from madang import _core

_STEP_TOKENS = 512  # texts share a step up to here; a longer one has a step of its own


def steps(lengths: Sequence[int]) -> Iterator[slice]:
    """Texts of these tokens in order, as many together as fit into a step."""
    begin = n_tokens = 0
    for i, length in enumerate(lengths):
        if i > begin and n_tokens + length > _STEP_TOKENS:
            yield slice(begin, i)
            begin, n_tokens = i, 0
        n_tokens += length
    if lengths:
        yield slice(begin, len(lengths))


def read(
    decoder: _core.Decoder,
    texts: Sequence[Sequence[int]],
    outputs: Sequence[int],
    *,
    types: Sequence[Sequence[int]] | None = None,
    trace: bool = False,
) -> None:
    """One step over some texts, none of them empty; ``outputs`` are tokens, counted through all of them.

    types   of each token; None is 0 for all
    """
    lengths = [len(text) for text in texts]
    tables = _page_tables(lengths)
    decoder.reserve_pages(int(tables.max()) + 1)
    decoder.step(
        np.concatenate([np.array(text, np.int32) for text in texts]),
        np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        np.repeat(np.arange(len(texts), dtype=np.int32), lengths),
        tables,
        np.array(outputs, np.int32),
        wants_logits=False,
        types=None if types is None else np.concatenate([np.array(text, np.int32) for text in types]),
        trace=trace,
    )


def _page_tables(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    """Pages one after the other; -1 where a text has fewer than the longest."""
    counts = [-(-n // _core.PAGE_TOKENS) for n in lengths]
    tables = np.full((len(counts), max(counts)), -1, np.int32)
    first = 0
    for table, n in zip(tables, counts, strict=True):
        table[:n] = np.arange(first, first + n)
        first += n
    return tables
