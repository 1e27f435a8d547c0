"""How far a quantized model's next-token distributions are from its reference's.

Both read the same chunks of text, side by side, so nothing but one chunk's logits is held. The divergence is
KL(reference || quantized) in nats per token. Chunks, not tokens, are drawn again for intervals: tokens of one text are
not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.engine import LogitSource
from madang.core.errors import EngineError, InvalidRequest
from madang.core.writing import require_disk

CHUNK_TOKENS: Final = 512
N_RESAMPLES: Final = 10_000
_SEED: Final = 0

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Chunks = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """Per predicted token, chunk after chunk; ``ends`` says where the tokens of each chunk end.

    kl         KL(reference || other), nats
    agrees     whether both have the same likeliest token
    *_logprob  natural-log probability of the token that came
    """

    kl: Doubles
    agrees: npt.NDArray[np.bool_]
    reference_logprob: Doubles
    logprob: Doubles
    ends: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Of the tokens."""
        return float(self.kl.mean())

    def quantile(self, q: float) -> float:
        """Of the tokens: 0.5 is the median, 0.999 what one token in a thousand exceeds."""
        return float(np.quantile(self.kl, q))

    @property
    def agreement(self) -> float:
        """Share of the tokens whose likeliest next one is the same."""
        return float(self.agrees.mean())

    @property
    def perplexity(self) -> float:
        """Of the other model."""
        return math.exp(-float(self.logprob.mean()))

    @property
    def reference_perplexity(self) -> float:
        """Of the reference."""
        return math.exp(-float(self.reference_logprob.mean()))

    def chunk_sums(self) -> tuple[Doubles, Doubles]:
        """Of each chunk: the sum of ``kl``, and the number of tokens."""
        starts = np.array((0, *self.ends[:-1]))
        return np.add.reduceat(self.kl, starts), np.diff(np.array((0, *self.ends))).astype(np.float64)

    def to_dict(self) -> dict[str, float | int]:
        """The figures, for JSON."""
        return {
            "mean_kl": self.mean,
            "median_kl": self.quantile(0.5),
            "p99.9_kl": self.quantile(0.999),
            "top_1_agreement": self.agreement,
            "perplexity": self.perplexity,
            "reference_perplexity": self.reference_perplexity,
            "tokens": len(self.kl),
            "chunks": len(self.ends),
        }


def cut(tokens: Sequence[int], n_tokens: int = CHUNK_TOKENS, *, at_most: int | None = None) -> list[list[int]]:
    """Chunks of a text, spread over all of it when there are more than ``at_most``; the rest at its end is left out.

    Raises InvalidRequest when the text is shorter than one chunk.
    """
    n_chunks = len(tokens) // n_tokens
    if n_chunks == 0:
        raise InvalidRequest(f"The text has {len(tokens)} tokens, but a chunk needs {n_tokens}.", param="text")
    kept = n_chunks if at_most is None else min(n_chunks, at_most)
    numbers = [index * n_chunks // kept for index in range(kept)]
    return [list(tokens[number * n_tokens : (number + 1) * n_tokens]) for number in numbers]


def measure(reference: LogitSource, other: LogitSource, chunks: Chunks) -> Divergence:
    """Let both read the chunks, and compare. Raises EngineError for logits that cannot be compared."""
    return fold(compare(rows_of(reference, chunk), rows_of(other, chunk), chunk) for chunk in chunks)


def measure_all(reference: LogitSource, others: Sequence[LogitSource], chunks: Chunks) -> list[Divergence]:
    """The same for several, with the reference read once."""
    found: list[list[Divergence]] = [[] for _ in others]
    for chunk in chunks:
        rows = rows_of(reference, chunk)
        for own, other in zip(found, others, strict=True):
            own.append(compare(rows, rows_of(other, chunk), chunk))
    return [fold(parts) for parts in found]


def rows_of(source: LogitSource, chunk: Sequence[int]) -> Floats:
    """Logits after every token of a chunk but the last, [n - 1, words]."""
    parts: list[Any] = list(source.logits(chunk[:-1]))
    return np.concatenate(parts) if len(parts) > 1 else np.asarray(parts[0])


def compare(reference: Floats, rows: Floats, chunk: Sequence[int]) -> Divergence:
    """One chunk of n tokens; both are logits [n - 1, words]. Raises EngineError."""
    if reference.shape != rows.shape:
        raise EngineError(f"The logits to compare are {rows.shape}, the reference's {reference.shape}.")
    try:
        figures, agrees = _core.divergences(reference, rows, np.array(chunk[1:], np.int32))
    except RuntimeError as error:
        raise EngineError(f"The models cannot be compared: {error}.") from error
    # Of equal rows, what is left of the subtraction may lie below zero.
    kl = np.maximum(figures[:, 0], 0.0)
    return Divergence(kl, agrees.astype(np.bool_), figures[:, 1], figures[:, 2], (len(kl),))


def fold(parts: Iterable[Divergence]) -> Divergence:
    """Several texts as one."""
    found = list(parts)
    lengths = [end - begin for part in found for begin, end in zip((0, *part.ends[:-1]), part.ends, strict=True)]
    return Divergence(
        np.concatenate([part.kl for part in found]),
        np.concatenate([part.agrees for part in found]),
        np.concatenate([part.reference_logprob for part in found]),
        np.concatenate([part.logprob for part in found]),
        tuple(np.cumsum(lengths).tolist()),
    )


class KeptLogits:
    """A reference that is read once and compared with often: its logits of some chunks, exact, in files of a folder."""

    def __init__(self, folder: Path, source: LogitSource, chunks: Chunks, vocab_size: int) -> None:
        """Compute what is not there yet. Raises NotEnoughDisk before that."""
        self._source = source
        missing = [chunk for number, chunk in enumerate(chunks) if not (folder / f"logits-{number}.npy").exists()]
        require_disk(folder, sum(4 * vocab_size * len(chunk) for chunk in missing))
        self._files = {tuple(chunk[:-1]): folder / f"logits-{number}.npy" for number, chunk in enumerate(chunks)}
        folder.mkdir(parents=True, exist_ok=True)
        for number, chunk in enumerate(chunks):
            path = folder / f"logits-{number}.npy"
            if not path.exists():
                unfinished = folder / f"logits-{number}.part.npy"
                np.save(unfinished, rows_of(source, chunk))
                unfinished.replace(path)

    def tokenize(self, text: str) -> Sequence[int]:
        """See core.engine.LogitSource."""
        return self._source.tokenize(text)

    def logits(self, tokens: Sequence[int]) -> Iterator[Floats]:
        """See core.engine.LogitSource; of other texts than the kept ones, they are computed."""
        path = self._files.get(tuple(tokens))
        if path is None:
            yield from self._source.logits(tokens)
        else:
            yield np.load(path, mmap_mode="r")

    def forget(self) -> None:
        """Delete the files."""
        for path in self._files.values():
            path.unlink(missing_ok=True)


# ---- intervals


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and where it lies in that share of all resamples of the chunks."""

    value: float
    low: float
    high: float
    confidence: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "confidence": self.confidence}


def reduction(better: Divergence, worse: Divergence, *, confidence: float = 0.95) -> Interval:
    """By which share the mean KL of ``better`` lies below that of ``worse``: 1 - better / worse.

    A paired bootstrap over chunks (Efron 1979; percentiles). Both must have read the same chunks; ValueError if not.
    """
    sums, counts = better.chunk_sums()
    other_sums, other_counts = worse.chunk_sums()
    if not np.array_equal(counts, other_counts):
        raise ValueError("the two have not read the same chunks")
    draws = np.random.default_rng(_SEED).integers(len(sums), size=(N_RESAMPLES, len(sums)))
    totals, other_totals = sums[draws].sum(axis=1), other_sums[draws].sum(axis=1)
    drawn = 1 - totals / np.maximum(other_totals, np.finfo(np.float64).tiny)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = 1 - sums.sum() / max(other_sums.sum(), float(np.finfo(np.float64).tiny))
    return Interval(float(value), float(low), float(high), confidence)
