"""Which type each tensor takes, so that the sum of their losses is smallest within a number of bytes.

Losses are taken as additive here; whoever asks measures the result. A knapsack with sizes rounded up a little, then
single moves and swaps of two for what the rounding left, as long as they gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes
from madang.formats.tensors import TensorType

_MAX_SWAPS: Final = 20_000
_STEPS: Final = 100_000  # of bytes, between the smallest choice and the budget


class Option(NamedTuple):
    """One way to keep a tensor."""

    type: TensorType
    size_bytes: int
    loss: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """The type of every tensor; bytes and loss are the sums."""

    types: Mapping[str, TensorType]
    size_bytes: int
    loss: float


def allocate(options: Mapping[str, Sequence[Option]], budget_bytes: int) -> Allocation:
    """The best choice found. Raises InvalidRequest when even the smallest options exceed the budget."""
    smallest = {name: min(option.size_bytes for option in own) for name, own in options.items()}
    if sum(smallest.values()) > budget_bytes:
        raise InvalidRequest(
            f"The smallest possible tensors take {format_bytes(sum(smallest.values()))}, more than the "
            f"{format_bytes(budget_bytes)} that are left for them.",
            param="size",
            hint="Ask for a larger file, or choose a smaller model.",
        )
    chosen = _solve(options, smallest, budget_bytes)
    _improve(chosen, options, budget_bytes)
    return Allocation(
        {name: option.type for name, option in chosen.items()},
        sum(option.size_bytes for option in chosen.values()),
        sum(option.loss for option in chosen.values()),
    )


def hull(options: Sequence[Option]) -> list[Option]:
    """Those that some price per byte would choose, smallest first."""
    found: list[Option] = []
    for option in sorted(options, key=lambda option: (option.size_bytes, option.loss)):
        if found and option.loss >= found[-1].loss:
            continue
        while len(found) >= 2 and _gain(found[-2], option) >= _gain(found[-2], found[-1]):
            found.pop()
        if found and found[-1].size_bytes == option.size_bytes:
            continue
        found.append(option)
    return found


def _gain(before: Option, after: Option) -> float:
    """Loss that a byte saves."""
    return (before.loss - after.loss) / max(after.size_bytes - before.size_bytes, 1)


def _solve(
    options: Mapping[str, Sequence[Option]], smallest: Mapping[str, int], budget_bytes: int
) -> dict[str, Option]:
    """A knapsack with one choice per tensor, by dynamic programming over steps of bytes above the smallest choice."""
    room = budget_bytes - sum(smallest.values())
    unit = max(-(-room // _STEPS), 1)
    least = np.zeros(room // unit + 1)  # the loss of the tensors so far, with so many steps of bytes
    choices = {}
    for name, own in options.items():
        best, choice = np.full(len(least), np.inf), np.zeros(len(least), np.uint8)
        for number, option in enumerate(own):
            steps = -(-(option.size_bytes - smallest[name]) // unit)
            if steps < len(least):
                loss = least[: len(least) - steps] + option.loss
                better = loss < best[steps:]
                best[steps:][better] = loss[better]
                choice[steps:][better] = number
        least, choices[name] = best, choice
    at = len(least) - 1
    chosen: dict[str, Option] = {}
    for name in reversed(list(options)):
        option = options[name][choices[name][at]]
        chosen[name] = option
        at -= -(-(option.size_bytes - smallest[name]) // unit)
    return chosen


def _improve(chosen: dict[str, Option], options: Mapping[str, Sequence[Option]], budget_bytes: int) -> None:
    """Change one tensor, or raise one and lower another, while that lowers the loss within the budget."""
    free = budget_bytes - sum(option.size_bytes for option in chosen.values())
    for _ in range(_MAX_SWAPS):
        best: tuple[float, list[tuple[str, Option]], int] = (1e-12 * _total(chosen), [], 0)
        ups, downs = _moves(chosen, options)
        for name, option, gain, more in ups:
            if more <= free and gain > best[0]:
                best = (gain, [(name, option)], more)
        for name, option, gain, more in ups:
            if gain <= best[0]:
                break  # sorted by gain
            for other, lower, loss, less in downs:
                if gain - loss <= best[0]:
                    break  # sorted by loss
                if other != name and more - less <= free:
                    best = (gain - loss, [(name, option), (other, lower)], more - less)
        if not best[1]:
            return
        chosen.update(best[1])
        free -= best[2]


def _total(chosen: Mapping[str, Option]) -> float:
    return sum(option.loss for option in chosen.values())


_Move = tuple[str, Option, float, int]  # the tensor, what it takes, the loss that it saves or costs, the bytes likewise


def _moves(chosen: Mapping[str, Option], options: Mapping[str, Sequence[Option]]) -> tuple[list[_Move], list[_Move]]:
    """What lowers the loss, most first; and what frees bytes, cheapest first."""
    ups: list[_Move] = []
    downs: list[_Move] = []
    for name, now in chosen.items():
        for option in options[name]:
            if option.loss < now.loss:
                ups.append((name, option, now.loss - option.loss, option.size_bytes - now.size_bytes))
            if option.size_bytes < now.size_bytes:
                downs.append((name, option, option.loss - now.loss, now.size_bytes - option.size_bytes))
    ups.sort(key=lambda move: -move[2])
    downs.sort(key=lambda move: move[2])
    return ups, downs
