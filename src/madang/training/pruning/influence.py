"""How much each layer changes what it reads: block influence (ShortGPT, arXiv:2403.03853)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from madang.core.engine import Tracer
from madang.core.errors import InvalidRequest

Doubles = npt.NDArray[np.float64]


def block_influence(
    model: Tracer,
    chunks: Sequence[Sequence[int]],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Doubles:
    """1 - cosine between what each layer reads and what it leaves, mean over all tokens, [layers]; 0 changes nothing.

    progress   is told the chunks that are done, and all

    Raises what ``trace`` raises, and InvalidRequest when there is nothing to read.
    """
    sums: list[Doubles] = []
    n_tokens = 0
    for number, chunk in enumerate(chunks):
        hidden = model.trace(chunk, n_top=0).hidden
        sums.append(_apart(hidden[:-1], hidden[1:]).sum(axis=1))
        n_tokens += len(chunk)
        progress(number + 1, len(chunks))
    if not n_tokens:
        raise InvalidRequest("There is no text to measure layers with.", param="text")
    found: Doubles = np.sum(sums, axis=0) / n_tokens
    return found


def least_influential(influence: Doubles, n_kept: int) -> tuple[int, ...]:
    """The numbers of the ``n_kept`` layers to keep, in order: all but those that change least.

    Raises InvalidRequest when that is not 1 to one less than there are.
    """
    n_layers = len(influence)
    if not 1 <= n_kept < n_layers:
        raise InvalidRequest(
            f"The model has {n_layers} layers; {n_kept} cannot be what is left of them.",
            param="layers",
            hint=f"Keep 1 to {n_layers - 1}.",
        )
    strongest = np.argsort(-influence, kind="stable")[:n_kept]
    return tuple(sorted(strongest.tolist()))


def _apart(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> Doubles:
    """[layers, n] of [layers, n, n_embd] each."""
    dots = np.einsum("lni,lni->ln", before, after, dtype=np.float64)
    norms = np.einsum("lni,lni->ln", before, before, dtype=np.float64)
    others = np.einsum("lni,lni->ln", after, after, dtype=np.float64)
    apart: Doubles = 1 - dots / np.sqrt(np.maximum(norms * others, np.finfo(np.float64).tiny))
    return apart
