"""What forecasts were off by, learned from what happened: a factor per engine, family and type of weights.

The factor is the median of the last observations, so that a run beside a busy neighbour changes nothing, and it is
bounded: a forecast that is off by more than that is wrong, not imprecise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from madang.hardware.profile import read_machine_file, write_machine_file

Quantity = Literal["decode", "prompt", "memory"]
QUANTITIES: Final[tuple[Quantity, ...]] = ("decode", "prompt", "memory")
MOST_OBSERVATIONS: Final = 15
MOST_KINDS: Final = 100
BOUNDS: Final = (0.5, 2.0)
FEWEST_OBSERVATIONS: Final = 3  # before a factor is believed


@dataclass(frozen=True, slots=True)
class Learned:
    """Of one quantity: what was measured, over what was forecast."""

    ratios: tuple[float, ...] = ()

    @property
    def factor(self) -> float:
        """What forecasts are to be multiplied with."""
        if len(self.ratios) < FEWEST_OBSERVATIONS:
            return 1.0
        low, high = BOUNDS
        return min(max(median(self.ratios), low), high)

    @property
    def error(self) -> float | None:
        """The usual error of the forecast without a correction, as a part of what was measured."""
        return median(abs(1 / ratio - 1) for ratio in self.ratios) if self.ratios else None


def kind_of(engine: str, architecture: str, main_type: str) -> str:
    """What shares its corrections."""
    return f"{engine}/{architecture}/{main_type}"


def read_corrections(home: Path) -> dict[str, dict[Quantity, Learned]]:
    """All that was learned on this machine; what is damaged counts as not learned."""
    record = read_machine_file(home).get("corrections")
    found: dict[str, dict[Quantity, Learned]] = {}
    for kind, quantities in record.items() if isinstance(record, dict) else ():
        if isinstance(quantities, dict):
            found[kind] = {name: Learned(_ratios(quantities.get(name))) for name in QUANTITIES}
    return found


def learn(home: Path, kind: str, ratios: Mapping[Quantity, float]) -> None:
    """Remember what was measured over what was forecast, each above 0."""
    corrections = read_corrections(home)
    learned = corrections.pop(kind, {})
    for name, ratio in ratios.items():
        kept = learned.get(name, Learned()).ratios
        learned[name] = Learned((*kept, round(ratio, 4))[-MOST_OBSERVATIONS:])
    corrections[kind] = learned  # the last is the newest
    newest = dict(list(corrections.items())[-MOST_KINDS:])
    record: dict[str, Any] = {
        kind: {name: list(one.ratios) for name, one in quantities.items()} for kind, quantities in newest.items()
    }
    write_machine_file(home, {**read_machine_file(home), "corrections": record})


def _ratios(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(float(value) for value in values if isinstance(value, int | float) and value > 0)[-MOST_OBSERVATIONS:]
