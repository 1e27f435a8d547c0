"""Many short items in few sequences of one length, so that little of a step is padding.

Best fit, longest first (Johnson 1973; for packing "Fewer Truncations Improve Language Modeling", arXiv:2404.10830):
each item goes where it leaves the least room, and none is ever cut.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.training.examples.encoding import Encoded


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Several items one after another, int32 [n] each; no padding.

    labels            -100 where no loss is taken, aligned with ``input_ids`` (the model shifts them)
    position_ids      from 0 in each item, so that its positions are those it has alone
    segment_lengths   tokens of each item: attention may look back within one of them only
    """

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    position_ids: npt.NDArray[np.int32]
    segment_lengths: tuple[int, ...]


def pack(items: Sequence[Encoded], max_tokens: int) -> list[Packed]:
    """Items in sequences of at most ``max_tokens``; the same items give the same sequences.

    Raises InvalidRequest for an item that is longer than that.
    """
    rooms: list[tuple[int, int]] = []  # (tokens left, index of the sequence), sorted
    sequences: list[list[Encoded]] = []
    for item in sorted(items, key=lambda item: -len(item.input_ids)):
        n = len(item.input_ids)
        if n > max_tokens:
            raise InvalidRequest(
                f"An item of {n} tokens does not fit into sequences of {max_tokens}.", param="max_tokens"
            )
        at = bisect_left(rooms, (n, -1))
        if at == len(rooms):
            sequences.append([item])
            insort(rooms, (max_tokens - n, len(sequences) - 1))
        else:
            left, index = rooms.pop(at)
            sequences[index].append(item)
            insort(rooms, (left - n, index))
    return [_packed(sequence) for sequence in sequences]


def _packed(items: Sequence[Encoded]) -> Packed:
    lengths = tuple(len(item.input_ids) for item in items)
    return Packed(
        np.concatenate([item.input_ids for item in items]),
        np.concatenate([item.labels for item in items]),
        np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        lengths,
    )
