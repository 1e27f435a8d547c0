"""How far an exported file may be from the trained model, by what its weights are written in.

KL(trained || exported) in nats per token on text that neither was made from, and the share of greedy tokens that are
the same. Each bound is several times what sound exports of small models have, and far below what a wrong one has:
docs/how-to/export.md has the measured figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bound:
    """What is allowed.

    mean_kl     the most, nats per token
    agreement   the least share of greedy tokens
    bits        of a weight, about
    tie_nats    where the trained model has two tokens closer than that, either counts as its choice
    """

    mean_kl: float
    agreement: float
    bits: float
    tie_nats: float = 0.0


BOUNDS: Final[Mapping[str, Bound]] = {
    "F32": Bound(1e-5, 1.0, 32, tie_nats=1e-3),
    "F16": Bound(1e-3, 1.0, 16, tie_nats=0.02),
    "BF16": Bound(5e-3, 1.0, 16, tie_nats=0.1),
    "Q8_0": Bound(0.02, 0.95, 8.5),
    "Q6_K": Bound(0.06, 0.90, 6.6),
    "Q5": Bound(0.15, 0.80, 5.0),
    "Q4": Bound(0.50, 0.65, 4.0),
    "Q3": Bound(1.50, 0.40, 3.0),
    "Q2": Bound(3.00, 0.20, 2.0),
}
_NAMED: Final = ("F32", "F16", "BF16")


def bound_of_type(name: str) -> Bound:
    """Of floats by their name, of the others by the bits that their name says: Q4_K_M and IQ4_NL have four."""
    if name in BOUNDS:
        return BOUNDS[name]
    digits = [letter for letter in name if letter.isdigit()]
    return bound_of_bits(float(digits[0])) if digits else BOUNDS["Q2"]


def bound_of_bits(bits: float) -> Bound:
    """Of a file with so many bits per weight: the bound of the next type below."""
    fitting = [bound for name, bound in BOUNDS.items() if name not in _NAMED and bound.bits <= bits]
    return fitting[0] if fitting else BOUNDS["Q2"]
