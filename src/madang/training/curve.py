"""The loss over the steps, as a plot in the terminal and as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a Braille cell, by row and column
WIDTH: Final = 720
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 46


class Place(NamedTuple):
    """A value at a step."""

    step: int
    value: float


def smoothed(places: Sequence[Place], n_most: int = 200) -> list[Place]:
    """Means of neighbours, so that at most so many are left."""
    size = max(1, -(-len(places) // n_most))
    groups = [places[begin : begin + size] for begin in range(0, len(places), size)]
    return [Place(group[-1].step, math.fsum(one.value for one in group) / len(group)) for group in groups]


def terminal_curve(places: Sequence[Place], columns: int = 64, rows: int = 8) -> list[str]:
    """Lines of Braille dots with the highest and the lowest value at the left; none without two finite values."""
    shown = [one for one in smoothed(places, columns * 2) if math.isfinite(one.value)]
    if len(shown) < 2:
        return []
    low, high = min(one.value for one in shown), max(one.value for one in shown)
    first, last = shown[0].step, shown[-1].step
    cells = [[0] * columns for _ in range(rows)]
    for step, value in shown:
        x = round((step - first) / max(1, last - first) * (columns * 2 - 1))
        y = round((high - value) / ((high - low) or 1.0) * (rows * 4 - 1))
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    names = [f"{high:8.3f} ", *[" " * 9] * (rows - 2), f"{low:8.3f} "]
    lines = [name + "".join(chr(0x2800 + cell) for cell in row) for name, row in zip(names, cells, strict=True)]
    return [*lines, f"{' ' * 9}step {first} to {last}"]


def svg_curve(title: str, trained: Sequence[Place], held_out: Sequence[Place]) -> str:
    """Both losses, that of the steps as a line, the held-out one as dots; readable without colours and by voice."""
    line, dots = smoothed([one for one in trained if math.isfinite(one.value)]), list(held_out)
    every = [*line, *dots]
    if not every:
        return ""
    last = max(one.step for one in every)
    low, high = min(one.value for one in every), max(one.value for one in every)
    low, high = low - 0.05 * (high - low), high + 0.05 * ((high - low) or 1.0)

    def at(one: Place) -> str:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * one.step / max(1, last)
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (one.value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    told = f"Loss of the steps from {line[0].value:.3f} to {line[-1].value:.3f}" if line else ""
    told += f"; held out from {dots[0].value:.3f} to {dots[-1].value:.3f}." if dots else "."
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="loss-title loss-told">',
        f'<title id="loss-title">{escape(title)}</title><desc id="loss-told">{told}</desc>',
    ]
    for number in range(5):
        value = low + (high - low) * number / 4
        y = at(Place(0, value)).partition(",")[2]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y}" text-anchor="end">{value:.2f}</text>')
    for step in sorted({0, last // 2, last}):
        x = at(Place(step, low)).partition(",")[0]
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 26}" text-anchor="middle">{step}</text>')
    parts.append(f'<polyline fill="none" stroke="currentColor" points="{" ".join(map(at, line))}"/>')
    for one in dots:
        x, y = at(one).split(",")
        parts.append(f'<circle class="mark mark-0" cx="{x}" cy="{y}" r="5"/>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">step (dots: held out)</text></svg>')
    return "\n".join(parts)
