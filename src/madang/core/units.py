"""Units as people write them: bytes, durations, rates."""

from __future__ import annotations

import re

_BYTE_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY_UNITS = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}
_BYTES = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """``"4GB"`` -> 4_000_000_000, ``"512MiB"`` -> 536_870_912. Raises ValueError on anything else."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a size; write for example 95MB, 4GB or 512MiB")
    unit = (match[2] or "").lower()
    return int(float(match[1]) * {**_BYTE_UNITS, **_BINARY_UNITS}[unit])


def format_bytes(n_bytes: int) -> str:
    """Decimal units, three significant digits: 98_362_432 -> ``"98.4 MB"``."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            digits = 0 if unit == "B" or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """0.0123 -> ``"12 ms"``, 3.21 -> ``"3.2 s"``, 75 -> ``"1 min 15 s"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def per_second(count: int, seconds: float) -> float | None:
    """A rate, or None when no time passed (unknown is not zero and not infinite)."""
    return count / seconds if seconds > 0 else None


def format_count(count: int) -> str:
    """A number of weights as model names write it: 134_515_008 -> ``"135M"``, 1_711_376_384 -> ``"1.7B"``."""
    value = float(count)
    for unit in ("", "K", "M", "B", "T"):
        if value < 999.5 or unit == "T":
            return f"{value:.0f}{unit}" if value >= 9.95 or not unit else f"{value:.1f}{unit}"
        value /= 1000
    raise AssertionError("unreachable")
