"""Which type each tensor takes, so that the sum of their losses is smallest within a number of bytes.

Losses are taken as additive here; who measures the result corrects them and asks again. First the best slope of all tensors'
convex hulls (Lagrange multiplier; Shoham and Gersho 1988), then single moves and swaps of two, as long as they gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes
from madang.formats.tensors import TensorType

_MAX_SWAPS: Final = 20_000


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
    hulls = {name: hull(own) for name, own in options.items()}
    smallest = sum(own[0].size_bytes for own in hulls.values())
    if smallest > budget_bytes:
        raise InvalidRequest(
            f"The smallest possible tensors take {format_bytes(smallest)}, more than the {format_bytes(budget_bytes)} "
            "that are left for them.",
            param="size",
            hint=f"Ask for at least {format_bytes(smallest)}, or choose a smaller model.",
        )
    at = _climb(hulls, budget_bytes)
    chosen = {name: hulls[name][step] for name, step in at.items()}
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


def _climb(hulls: Mapping[str, Sequence[Option]], budget_bytes: int) -> dict[str, int]:
    """From the smallest options, the step with the best slope first, as long as it fits."""
    at = dict.fromkeys(hulls, 0)
    total = sum(own[0].size_bytes for own in hulls.values())
    steps = [
        (-_gain(own[step], own[step + 1]), name, step) for name, own in hulls.items() for step in range(len(own) - 1)
    ]
    for _, name, step in sorted(steps):
        if at[name] != step:  # an earlier step of this tensor did not fit
            continue
        more = hulls[name][step + 1].size_bytes - hulls[name][step].size_bytes
        if total + more <= budget_bytes:
            at[name] = step + 1
            total += more
    return at


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
