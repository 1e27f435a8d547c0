"""One step: the shares of several sequences as the arrays that the core wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.native.sequence import PLAIN, Share

Ints = npt.NDArray[np.int32]

_ZERO = np.zeros(1, np.int32)


def compute(decoder: _core.Decoder, shares: Sequence[Share], *, trace: bool = False) -> None:
    """Run the step. Rows of logits lie in the order of shares, and within one in the order of positions.

    trace   keep the inside of the step, as ``_core.Decoder.step`` says
    """
    is_one = len(shares) == 1 and shares[0].n_tokens == 1 and not shares[0].drafts
    if is_one and shares[0].sequence.namespace == PLAIN and not trace:
        _compute_one(decoder, shares[0])
        return
    tokens: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    outputs: list[int] = []
    for number, share in enumerate(shares):
        begin = share.sequence.n_computed
        new = share.sequence.tokens[begin : begin + share.n_tokens] + share.drafts
        tokens += new
        positions += range(begin, begin + len(new))
        sequences += [number] * len(new)
        outputs += range(len(tokens) - share.n_rows, len(tokens))
    names = [share.sequence.namespace for share in shares]
    is_plain = all(name == PLAIN for name in names)
    decoder.step(
        _ints(tokens),
        _ints(positions),
        _ints(sequences),
        _tables(shares),
        _ints(outputs),
        long_rope=None if is_plain else _ints([name.is_long for name in names]),
        adapters=None if is_plain else _ints([name.adapter for name in names]),
        adapter_scales=None if is_plain else np.array([name.adapter_scale for name in names], np.float32),
        trace=trace,
    )


def _compute_one(decoder: _core.Decoder, share: Share) -> None:
    """The most common step: one more token of one sequence."""
    sequence = share.sequence
    position = sequence.n_computed
    decoder.step(
        np.array((sequence.tokens[position],), np.int32),
        np.array((position,), np.int32),
        _ZERO,
        sequence.pages.rows,
        _ZERO[: share.n_rows],
    )


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int32)


def _tables(shares: Sequence[Share]) -> Ints:
    """Page tables one below the other; what is beyond a sequence's pages is never looked at."""
    tables = [share.sequence.pages for share in shares]
    if len(tables) == 1:
        return tables[0].rows
    width = max(table.n_columns for table in tables)
    rows = np.zeros((len(tables), tables[0].groups.n_groups, width), np.int32)
    for own, table in zip(rows, tables, strict=True):
        own[:, : table.n_columns] = table.rows[:, : table.n_columns]
    return rows.reshape(-1, width)
