"""What forecasts were off by, learned from what happened: a factor per engine, family and type of weights.

Observations are kept per model, so that each can be told its usual error. The factor is the median of the last ones of
all models of a kind, so that a run beside a busy neighbour changes nothing, and it is bounded: a forecast that is off
by more than that is wrong, not imprecise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from madang.hardware.profile import changed_machine_file, read_machine_file

Quantity = Literal["decode", "prompt", "memory"]
QUANTITIES: Final[tuple[Quantity, ...]] = ("decode", "prompt", "memory")
MOST_OBSERVATIONS: Final = 15
MOST_MODELS: Final = 100
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


@dataclass(frozen=True, slots=True)
class Observed:
    """Of one model, and the kind of models that it shares its corrections with."""

    kind: str
    learned: Mapping[Quantity, Learned]


def kind_of(engine: str, architecture: str, main_type: str) -> str:
    """What shares its corrections."""
    return f"{engine}/{architecture}/{main_type}"


def read_observed(home: Path) -> dict[str, Observed]:
    """All that was learned on this machine, per model, the newest last; what is damaged counts as not learned."""
    record = read_machine_file(home).get("observed")
    found: dict[str, Observed] = {}
    for model, entry in record.items() if isinstance(record, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            found[model] = Observed(entry["kind"], {name: Learned(_ratios(entry.get(name))) for name in QUANTITIES})
    return found


def read_corrections(home: Path, kind: str) -> dict[Quantity, Learned]:
    """What all models of a kind have in common."""
    of_kind = [observed.learned for observed in read_observed(home).values() if observed.kind == kind]
    return {name: Learned(tuple(ratio for one in of_kind for ratio in one[name].ratios)) for name in QUANTITIES}


def learn(home: Path, model: str, kind: str, ratios: Mapping[Quantity, float]) -> None:
    """Remember what was measured over what was forecast, each above 0. Raises OSError."""
    with changed_machine_file(home) as record:
        observed = record.get("observed")
        models: dict[str, Any] = observed if isinstance(observed, dict) else {}
        earlier = models.pop(model, None)
        if not isinstance(earlier, dict) or earlier.get("kind") != kind:  # another model of this name by now
            earlier = {}
        kept = {name: [*_ratios(earlier.get(name))] for name in QUANTITIES}
        for name, ratio in ratios.items():
            kept[name] = [*kept[name], round(ratio, 4)][-MOST_OBSERVATIONS:]
        models[model] = {"kind": kind, **kept}
        record["observed"] = dict([*models.items()][-MOST_MODELS:])


def _ratios(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(float(value) for value in values if isinstance(value, int | float) and value > 0)[-MOST_OBSERVATIONS:]
