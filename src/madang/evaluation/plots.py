"""Plots as inline SVG, readable without colours and by voice: points over two linear axes, and rows of intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 360
_LEFT: Final = 78
_RIGHT: Final = 24
_TOP: Final = 22
_BOTTOM: Final = 52
_N_TICKS: Final = 5
_LINE: Final = 15  # height of a label
_ROW: Final = 26  # height of a row of intervals, and the width of its names
_NAMES: Final = 264  # room for _MOST_LABEL characters
_MOST_LABEL: Final = 34
_SHAPES: Final = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True, slots=True)
class Point:
    """A model. ``low`` and ``high`` bound ``y``, where that is known."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """What is told along an axis, and how its numbers are written."""

    title: str
    write: Callable[[float], str]


def scatter(name: str, title: str, description: str, axes: tuple[Axis, Axis], points: Sequence[Point]) -> str:
    """One plot; ``name`` is unique on the page. Both axes begin at 0, so that proportions are seen."""
    x_axis, y_axis = axes
    x_ticks = _ticks(max(point.x for point in points))
    y_ticks = _ticks(max(max(point.y, point.high or point.y) for point in points))
    place = _Place(x_ticks[-1], y_ticks[-1])
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-description">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-description">{escape(description)}</desc>',
        *_grid(place, x_axis, x_ticks, y_axis, y_ticks),
        *_points(place, points),
        "</svg>",
    ]
    return "\n".join(parts)


def intervals(name: str, title: str, description: str, axis: Axis, points: Sequence[Point]) -> str:
    """One row per point: its ``x`` is not used, ``y`` lies along a linear axis from 0, with its bounds as a line."""
    ticks = _ticks(max(max(point.y, point.high or point.y) for point in points))
    floor = _TOP + _ROW * len(points)
    height = floor + _BOTTOM

    def along(value: float) -> float:
        return _NAMES + (WIDTH - _NAMES - _RIGHT) * value / ticks[-1]

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-description">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-description">{escape(description)}</desc>',
    ]
    for value in ticks:
        x = along(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{floor + 19}" text-anchor="middle">{escape(axis.write(value))}</text>'
        )
    parts.append(
        f'<text x="{(_NAMES + WIDTH - _RIGHT) / 2}" y="{height - 10}" text-anchor="middle">{escape(axis.title)}</text>'
    )
    for number, point in enumerate(points):
        y = _TOP + _ROW * (number + 0.5)
        if point.low is not None and point.high is not None:
            low, high = along(point.low), along(point.high)
            parts.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_mark(number, along(point.y), y))
        label = f'x="{_NAMES - 10}" y="{y + 4:.1f}" text-anchor="end"'
        parts.append(f'<text class="label" {label}>{escape(_short_label(point.label))}</text>')
    parts.append("</svg>")
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where values lie, in units of the view box."""

    x_most: float
    y_most: float

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / self.x_most

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self.y_most


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least ``most``."""
    most = most if most > 0 and math.isfinite(most) else 1.0
    rough = most / _N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(most / step - 1e-9) + 1)]


def _grid(place: _Place, x_axis: Axis, x_ticks: list[float], y_axis: Axis, y_ticks: list[float]) -> list[str]:
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in y_ticks:
        y = place.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{y_axis.write(value)}</text>'
        )
    for value in x_ticks:
        x = place.x(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{floor + 19}" text-anchor="middle">{x_axis.write(value)}</text>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_axis.title)}</text>')
    turn = f'transform="rotate(-90 16 {(floor + _TOP) / 2})"'
    parts.append(f'<text x="16" y="{(floor + _TOP) / 2}" text-anchor="middle" {turn}>{escape(y_axis.title)}</text>')
    return parts


def _points(place: _Place, points: Sequence[Point]) -> list[str]:
    parts = []
    taken: list[tuple[float, float, float]] = []  # of labels: from x, to x, at y
    for number, point in sorted(enumerate(points), key=lambda item: (item[1].x, item[1].y)):
        x, y = place.x(point.x), place.y(point.y)
        if point.low is not None and point.high is not None:
            low, high = place.y(point.low), place.y(point.high)
            parts.append(f'<line class="spread" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(_mark(number, x, y))
        parts.append(_label(point.label, x, y, taken))
    return parts


def _mark(number: int, x: float, y: float) -> str:
    kind = f'class="mark mark-{number % 8}"'
    match _SHAPES[number % len(_SHAPES)]:
        case "circle":
            return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
        case "square":
            return f'<rect {kind} x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
        case "triangle":
            return f'<path {kind} d="M{x:.1f} {y - 6.5:.1f} l6 11 h-12 z"/>'
        case _:
            return f'<path {kind} d="M{x:.1f} {y - 6.5:.1f} l6.5 6.5 l-6.5 6.5 l-6.5 -6.5 z"/>'


def _short_label(text: str) -> str:
    return text if len(text) <= _MOST_LABEL else f"{text[:16]}…{text[-17:]}"


def _label(text: str, x: float, y: float, taken: list[tuple[float, float, float]]) -> str:
    """Beside the point, on the side with room, moved up or down until no other label is there."""
    shown = _short_label(text)
    width = 7.2 * len(shown)
    to_left = x + 10 + width > WIDTH - 4
    begin = x - 10 - width if to_left else x + 10
    at = y + 4
    for shift in (0, -1, 1, -2, 2, -3, 3, -4, 4):
        tried = min(max(y + 4 + shift * _LINE, _TOP), HEIGHT - _BOTTOM - 4)
        if not any(begin < end and first < begin + width and abs(tried - line) < _LINE for first, end, line in taken):
            at = tried
            break
    taken.append((begin, begin + width, at))
    anchor, from_x = ("end", x - 10) if to_left else ("start", x + 10)
    return f'<text class="label" x="{from_x:.1f}" y="{at:.1f}" text-anchor="{anchor}">{escape(shown)}</text>'
