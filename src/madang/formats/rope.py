"""Inverse frequencies of rotary position embeddings under the scalings in use.

All return radians per position, one per rotated pair: float64[n_dims / 2].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Frequencies = npt.NDArray[np.float64]


def base_frequencies(base: float, n_dims: int) -> Frequencies:
    """``base ** (-2 i / n_dims)`` (RoFormer, arXiv:2104.09864)."""
    return np.power(base, -np.arange(0, n_dims, 2, dtype=np.float64) / n_dims)


def scale_linear(frequencies: Frequencies, factor: float) -> Frequencies:
    """Position interpolation (arXiv:2306.15595): positions count as ``1 / factor`` of themselves."""
    return frequencies / factor


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN (arXiv:2309.00071): pairs that turn often keep their frequency, slow ones are interpolated.

    beta_fast, beta_slow   turns within the original context above which a pair is kept, below which interpolated
    """

    factor: float
    base: float
    original_context_tokens: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    @property
    def magnitude(self) -> float:
        """The paper's attention temperature as a factor on cosine and sine."""
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def scale(self, frequencies: Frequencies) -> Frequencies:
        """The mix of kept and interpolated frequencies, with a linear ramp over pairs between the two limits."""
        n_dims = 2 * len(frequencies)
        low = max(math.floor(self._pair_of(self.beta_fast, n_dims)), 0)
        high = min(math.ceil(self._pair_of(self.beta_slow, n_dims)), n_dims - 1)
        ramp = np.clip((np.arange(len(frequencies)) - low) / max(high - low, 0.001), 0, 1)
        return frequencies * (1 - ramp) + frequencies / self.factor * ramp

    def _pair_of(self, n_turns: float, n_dims: int) -> float:
        turns = self.original_context_tokens / (n_turns * 2 * math.pi)
        return n_dims * math.log(turns) / (2 * math.log(self.base))


@dataclass(frozen=True, slots=True)
class Llama3:
    """Llama 3.1's scaling (Meta's reference code): fast pairs are kept, slow ones slowed down, with a ramp between.

    low_turns, high_turns   turns within the original context below which a pair is slowed by ``factor``, above which
                            it is kept
    """

    factor: float
    low_turns: float
    high_turns: float
    original_context_tokens: int

    def scale(self, frequencies: Frequencies) -> Frequencies:
        """The mix of kept and slowed frequencies."""
        turns = self.original_context_tokens * frequencies / (2 * math.pi)
        kept = np.clip((turns - self.low_turns) / (self.high_turns - self.low_turns), 0, 1)
        return frequencies * kept + frequencies / self.factor * (1 - kept)


def long_rope_magnitude(factor: float, original_context_tokens: int) -> float:
    """LongRoPE's factor on cosine and sine (arXiv:2402.13753) for a context ``factor`` times the original one."""
    return math.sqrt(1 + math.log(factor) / math.log(original_context_tokens)) if factor > 1 else 1.0


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """How a model's files say what its rotation is; :class:`RopeSpec` is what comes of it.

    base, n_dims     the base of the frequencies, and how many elements of a head are rotated
    factor           of "linear", "llama3" and "yarn"
    magnitude        factor on cosine and sine, where the files give one
    low_turns, high_turns, beta_fast, beta_slow   as in :class:`Llama3` and :class:`Yarn`
    divisors         what frequencies are divided by: "divided" in general, "longrope" up to the original context
    long_divisors    and past it
    """

    base: float
    n_dims: int
    kind: Literal["default", "linear", "llama3", "yarn", "longrope", "divided"] = "default"
    factor: float = 1.0
    original_context_tokens: int = 0
    magnitude: float | None = None
    low_turns: float = 1.0
    high_turns: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    divisors: tuple[float, ...] = ()
    long_divisors: tuple[float, ...] = ()

    @property
    def frequencies(self) -> Frequencies:
        """Those of the usual rotation, scaled."""
        plain = base_frequencies(self.base, self.n_dims)
        match self.kind:
            case "default":
                return plain
            case "linear":
                return scale_linear(plain, self.factor)
            case "llama3":
                scaling = Llama3(self.factor, self.low_turns, self.high_turns, self.original_context_tokens)
                return scaling.scale(plain)
            case "yarn":
                return self.yarn.scale(plain)
        return plain / np.array(self.divisors, np.float64)

    @property
    def long_frequencies(self) -> Frequencies:
        """Those of sequences longer than the original context, under "longrope"."""
        return base_frequencies(self.base, self.n_dims) / np.array(self.long_divisors, np.float64)

    @property
    def yarn(self) -> Yarn:
        """Its scaling, under "yarn"."""
        original = self.original_context_tokens
        return Yarn(self.factor, self.base, original, beta_fast=self.beta_fast, beta_slow=self.beta_slow)

    @property
    def stated_magnitude(self) -> float:
        """The factor on cosine and sine."""
        if self.magnitude is not None:
            return self.magnitude
        return self.yarn.magnitude if self.kind == "yarn" else 1.0
