"""Durations as Ollama's clients write and read them."""

from __future__ import annotations

import math
import re
from typing import Final

from madang.core.errors import InvalidRequest

_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|μs|ms|s|m|h)")
_GO: Final = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
FOREVER_S: Final = -1.0
MAX_CHARACTERS: Final = 64
MAX_S: Final = 10 * 365 * 24 * 3600.0  # beyond this, "forever" is meant


def read_keep_alive(value: object) -> float | None:
    """Seconds; negative is forever, None is not set: ``"5m"``, ``"1h30m"``, ``300``, ``"300"``, ``-1``, ``0``.

    Raises InvalidRequest for anything else.
    """
    if value is None or value == "":
        return None
    seconds = _seconds(value)
    if seconds is None or math.isnan(seconds):
        raise InvalidRequest(
            f"keep_alive is {str(value)[:MAX_CHARACTERS]!r}, but must be a duration such as '5m', or seconds.",
            param="keep_alive",
        )
    return FOREVER_S if seconds < 0 or seconds > MAX_S else seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(min(max(value, -1), MAX_S + 1))  # a whole number may be larger than any float
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
        return None
    if _NUMBER.fullmatch(value):
        return float(value)
    if _GO.fullmatch(value):
        total_s = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value))
        return -total_s if value.startswith("-") else total_s
    return None


def nanoseconds(seconds: float) -> int:
    """What all durations of answers are given in; something that took place took at least one."""
    return max(round(seconds * 1e9), 1)
