"""Which examples a step learns from, and how they lie in the tensors that the model reads.

Packed: several examples in one row without padding, what all of them begin with (a system message, an instruction)
only once. Tokens see that beginning and their own example, at the positions that they have alone, so that the result is
that of each example by itself. It costs attention of the whole row, so rows are short.
Padded: a row each, sorted by length, for models whose layers cannot be told what to see (windows, recurrent states).

Shapes: B rows, N tokens in a row, T tokens that are predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.training.examples import Encoded
from madang.training.examples.encoding import NO_LOSS

Ints = npt.NDArray[np.int64]

# Packed rows are filled up to a multiple of it, so that few lengths occur: oneDNN keeps what it made for each, and the
# heap has a hole of each size.
_ROW_STEP: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Tensors of one forward pass, as arrays.

    input_ids     [B, N]
    position_ids  [B, N]; None counts from 0
    allowed       bool [1, 1, N, N] who sees whom, or int [B, N], 0 for padding
    predictors    [T] of the B*N places, which one's output predicts
    targets       [T] token ids
    owners        [T] number of the example within the row
    n_examples    how many there are
    n_tokens      that they have, what they share counted in each
    """

    input_ids: Ints
    position_ids: Ints | None
    allowed: npt.NDArray[Any]
    predictors: Ints
    targets: Ints
    owners: Ints
    n_examples: int
    n_tokens: int


def order(n_examples: int, seed: int, epoch: int) -> Ints:
    """The examples of an epoch, shuffled; the same whenever it is asked."""
    return np.random.default_rng([seed, epoch]).permutation(n_examples)


def steps_of_epoch(lengths: Sequence[int], seed: int, epoch: int, batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the examples of each step: as many as ``batch_tokens`` holds, at least one."""
    step: list[int] = []
    n_tokens = 0
    for number in order(len(lengths), seed, epoch):
        if step and n_tokens + lengths[number] > batch_tokens:
            yield step
            step, n_tokens = [], 0
        step.append(int(number))
        n_tokens += lengths[number]
    if step:
        yield step


def all_steps(lengths: Sequence[int], seed: int, batch_tokens: int) -> Iterator[tuple[int, list[int]]]:
    """Epoch and examples of every step, without end."""
    epoch = 0
    while True:
        for step in steps_of_epoch(lengths, seed, epoch, batch_tokens):
            yield epoch, step
        epoch += 1


def rows_of(items: Sequence[Encoded], row_tokens: int, *, packed: bool) -> list[tuple[Row, list[int]]]:
    """The rows of some examples, each with the numbers of those that it holds, in the order of its ``owners``."""
    by_length = sorted(range(len(items)), key=lambda number: (len(items[number].input_ids), number))
    if packed:
        groups = _grouped(by_length, [len(item.input_ids) for item in items], row_tokens, _shared(items))
        return [(pack_row([items[number] for number in group]), group) for group in groups]
    return [(pad_row([items[number] for number in group]), group) for group in _padded(by_length, items, row_tokens)]


def _grouped(numbers: Sequence[int], lengths: Sequence[int], row_tokens: int, n_shared: int) -> Iterator[list[int]]:
    group: list[int] = []
    n_tokens = n_shared
    for number in numbers:
        own = lengths[number] - n_shared
        if group and n_tokens + own > row_tokens:
            yield group
            group, n_tokens = [], n_shared
        group.append(number)
        n_tokens += own
    if group:
        yield group


def _padded(numbers: Sequence[int], items: Sequence[Encoded], row_tokens: int) -> Iterator[list[int]]:
    group: list[int] = []
    for number in numbers:  # sorted, so each is the longest so far
        if group and len(items[number].input_ids) * (len(group) + 1) > row_tokens:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _shared(items: Sequence[Encoded]) -> int:
    """Tokens that all examples begin with and none learns; each keeps one of its own at least."""
    first = items[0]
    n_shared = min(min(len(item.input_ids) for item in items) - 1, _n_unlearned(first))
    for item in items[1:]:
        n_shared = min(n_shared, _n_unlearned(item))
        differs = np.flatnonzero(item.input_ids[:n_shared] != first.input_ids[:n_shared])
        n_shared = int(differs[0]) if len(differs) else n_shared
    return n_shared


def _n_unlearned(item: Encoded) -> int:
    learned = np.flatnonzero(item.labels != NO_LOSS)
    return int(learned[0]) if len(learned) else len(item.labels)


def pack_row(items: Sequence[Encoded]) -> Row:
    """One row of all ``items``; what they begin with stands once, at the front."""
    n_shared = _shared(items) if len(items) > 1 else 0
    ids, positions = [items[0].input_ids[:n_shared]], [np.arange(n_shared)]
    segments = [np.zeros(n_shared, np.int64)]
    predictors: list[Ints] = []
    targets: list[Ints] = []
    owners: list[Ints] = []
    begin = n_shared
    for number, item in enumerate(items):
        n_own = len(item.input_ids) - n_shared
        ids.append(item.input_ids[n_shared:])
        positions.append(np.arange(n_shared, n_shared + n_own))
        segments.append(np.full(n_own, number + 1, np.int64))
        learned = np.flatnonzero(item.labels[n_shared:] != NO_LOSS)
        learned = learned[learned + n_shared > 0]  # nothing predicts the first token of a text
        # Its own first token is predicted by the last of what is shared.
        predictors.append(np.where(learned > 0, begin + learned - 1, n_shared - 1))
        targets.append(item.labels[n_shared:][learned].astype(np.int64))
        owners.append(np.full(len(learned), number, np.int64))
        begin += n_own
    n_filled = -begin % _ROW_STEP
    ids.append(np.zeros(n_filled, np.int32))
    positions.append(np.zeros(n_filled, np.int64))
    segments.append(np.full(n_filled, -1, np.int64))
    segment = np.concatenate(segments)
    place = np.arange(len(segment))
    seen = (segment[None, :] == segment[:, None]) | (segment[None, :] == 0)
    allowed = (place[None, :] <= place[:, None]) & seen
    return Row(
        np.concatenate(ids).astype(np.int64)[None],
        np.concatenate(positions).astype(np.int64)[None],
        allowed[None, None],
        np.concatenate(predictors),
        np.concatenate(targets),
        np.concatenate(owners),
        len(items),
        sum(len(item.input_ids) for item in items),
    )


def pad_row(items: Sequence[Encoded]) -> Row:
    """A row for each item, filled up behind its end."""
    longest = max(len(item.input_ids) for item in items)
    ids = np.zeros((len(items), longest), np.int64)
    real = np.zeros((len(items), longest), np.int64)
    predictors, targets, owners = [], [], []
    for number, item in enumerate(items):
        ids[number, : len(item.input_ids)] = item.input_ids
        real[number, : len(item.input_ids)] = 1
        learned = np.flatnonzero(item.labels[1:] != NO_LOSS)
        predictors.append(number * longest + learned)
        targets.append(item.labels[1:][learned].astype(np.int64))
        owners.append(np.full(len(learned), number, np.int64))
    n_tokens = sum(len(item.input_ids) for item in items)
    parts = (np.concatenate(predictors), np.concatenate(targets), np.concatenate(owners))
    return Row(ids, None, real, *parts, len(items), n_tokens)
