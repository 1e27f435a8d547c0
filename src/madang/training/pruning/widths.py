"""Which FFN columns and attention heads say least: mean squares of what the matrices behind them read.

Minitron (arXiv:2407.14679) ranks by such activation norms, too. A column of the FFN is a row of its gate and up and a
column of its down matrix; heads go as a whole, and all that share a key-value head keep sharing one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.native import MutableModel
from madang.quantization.importance import measure_importance

Floats = npt.NDArray[np.float32]
Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Widths:
    """Mean squares of a text's activations.

    ffn     float32 [layers, n_ff]: what reaches each column of the down matrix
    heads   float32 [layers, n_heads]: what each head hands to the output matrix
    """

    ffn: Floats
    heads: Floats
    n_kv_heads: int


def measure_widths(
    model: MutableModel,
    chunks: Sequence[Sequence[int]],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Widths:
    """Let a model read the chunks, of 1024 tokens at most each. Raises what reading raises."""
    spec, tensors = model.description.spec, model.description.tensors
    found = measure_importance(model, chunks, progress=progress).mean_squares
    layers = range(spec.n_layers)
    ffn = np.stack([found[tensors[f"{layer}.ffn_down"].name] for layer in layers])
    attended = np.stack([found[tensors[f"{layer}.attention_output"].name] for layer in layers])
    heads = attended.reshape(spec.n_layers, spec.n_heads, -1).sum(axis=2)
    return Widths(ffn, heads, spec.n_kv_heads)


def strongest_columns(widths: Widths, n_kept: int) -> tuple[Numbers, ...]:
    """Per layer, the ``n_kept`` columns of the FFN to keep, in order. Raises InvalidRequest."""
    n_ff = widths.ffn.shape[1]
    if not 1 <= n_kept <= n_ff:
        raise InvalidRequest(f"The FFN has {n_ff} columns; {n_kept} cannot be kept of them.", param="ffn")
    return tuple(_largest(row, n_kept) for row in widths.ffn)


def strongest_heads(widths: Widths, n_kept: int, n_kv_kept: int | None = None) -> tuple[Numbers, ...]:
    """Per layer, the heads to keep, in order: of the strongest ``n_kv_kept`` groups, the strongest heads of each.

    n_kv_kept   key-value heads; None keeps as many as there are

    Raises InvalidRequest when the groups cannot be equally large.
    """
    n_heads, n_kv = widths.heads.shape[1], widths.n_kv_heads
    kv_kept = n_kv if n_kv_kept is None else n_kv_kept
    shared = n_heads // n_kv
    if not 1 <= kv_kept <= n_kv or n_kept % kv_kept or not 1 <= n_kept // kv_kept <= shared:
        raise InvalidRequest(
            f"Of {n_heads} heads, {shared} of which share a key-value head, {n_kept} with {kv_kept} key-value heads "
            "cannot be kept.",
            param="heads",
            hint=f"Keep 1 to {n_kv} key-value heads, and 1 to {shared} times as many heads.",
        )
    return tuple(_heads_of(row.reshape(n_kv, shared), kv_kept, n_kept // kv_kept) for row in widths.heads)


def _heads_of(groups: Floats, n_groups: int, n_each: int) -> Numbers:
    shared = groups.shape[1]
    chosen = _largest(groups.sum(axis=1), n_groups)
    return tuple(group * shared + head for group in chosen for head in _largest(groups[group], n_each))


def _largest(row: Floats, n_kept: int) -> Numbers:
    return tuple(sorted(np.argsort(-row, kind="stable")[:n_kept].tolist()))
