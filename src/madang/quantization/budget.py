"""The types that fit a number of bytes and lose least, found by measuring: the budget quantizer.

1. Screen: the error that each type leaves in each matrix's outputs (screen.py).
2. Measure: what that error does to the model's distributions, matrix by matrix, at one type.
3. Solve: allocation.py. 4. Measure the whole mix, and trade bytes between groups of matrices, as long as that helps.
What it finds is certified on other text (certificate.py). All figures are kept, so that interrupted work goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from math import exp, log
from typing import Final, NamedTuple

import numpy as np

from madang.formats.tensors import TensorType
from madang.quantization.allocation import Option, allocate, hull
from madang.quantization.counting import file_bytes
from madang.quantization.journal import Journal
from madang.quantization.matrices import QuantizableMatrix, group_of
from madang.quantization.screen import Encoder, possible_types
from madang.quantization.workbench import Mix, Workbench

SELECTION: Final = "selection"  # the text of the bench that choices are made on
PROBE_CHUNKS: Final = 2
TRADE_CHUNKS: Final = 4  # of those that whole mixes are measured on
MAX_ROUNDS: Final = 2
_LEAST: Final = 1e-30
PROBED_LAYERS: Final = 10
_BITS_AROUND: Final = 2.2  # types of more or fewer bits, by this factor, than the mean are not considered

Tell = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(frozen=True, slots=True)
class Round:
    """A mix that was measured: its divergence on the selection text, and what was expected of it."""

    mix: Mix
    mean_kl: float
    expected_kl: float


@dataclass(slots=True)
class BudgetSearch:
    """The search for one model.

    matrix_bytes    what counts against the budget
    sensitivities   KL per error of outputs
    """

    matrices: Sequence[QuantizableMatrix]
    encoder: Encoder
    bench: Workbench
    journal: Journal
    n_layers: int
    n_rounds: int = MAX_ROUNDS
    matrix_bytes: Callable[[QuantizableMatrix, TensorType], int] = file_bytes
    tell: Tell = lambda what, done, total: None
    sensitivities: dict[str, float] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def run(self, budget_bytes: int) -> Round:
        """The best mix that was measured. Raises InvalidRequest when the budget is too small."""
        n_elements = sum(matrix.n_rows * matrix.n_columns for matrix in self.matrices)
        bits = 8 * budget_bytes / n_elements
        options = self._screen(bits)
        allocate({name: [Option(t, size, 0.0) for t, size, _ in own] for name, own in options.items()}, budget_bytes)
        self._probe(options, bits)
        found = allocate(self._weighted(options), budget_bytes)
        best = self._measure(found.types, found.loss)
        for _ in range(self.n_rounds):
            better = self._trade(options, best, budget_bytes)
            if better is None:
                break
            best = better
        return best

    # ---- what a type does to a matrix

    def _screen(self, bits: float) -> dict[str, list[Option]]:
        """Every type of every matrix, with the error of its outputs as loss."""
        options: dict[str, list[Option]] = {}
        for number, matrix in enumerate(self.matrices):
            options[matrix.name] = [
                Option(t, self.matrix_bytes(matrix, t), self.encoder.errors(matrix, t))
                for t in _near(possible_types(matrix), bits)
            ]
            self.tell("screening types", number + 1, len(self.matrices))
        return options

    def _probe(self, options: Mapping[str, Sequence[Option]], bits: float) -> None:
        """What an error in a matrix does, measured at a type of about the bits that it will have.

        Of many layers some are measured, and those between them lie between.
        """
        measured = [matrix for matrix in self.matrices if self._is_probed(matrix)]
        for number, matrix in enumerate(measured):
            useful = hull(options[matrix.name])
            option = min(useful, key=lambda option: abs(option.type.bits_per_element - bits))
            key = f"probe {matrix.name} {option.type.name}"
            kl = self.journal.figure(key, partial(self._mean_kl, {matrix.name: option.type}, PROBE_CHUNKS))
            self.sensitivities[matrix.name] = max(kl, _LEAST) / max(option.loss, _LEAST)
            self.tell("measuring matrices", number + 1, len(measured))
        for matrix in self.matrices:
            if matrix.name not in self.sensitivities:
                self.sensitivities[matrix.name] = self._between(matrix, measured)

    def _is_probed(self, matrix: QuantizableMatrix) -> bool:
        step = -(-self.n_layers // PROBED_LAYERS)
        return matrix.layer is None or matrix.layer % step == 0 or matrix.layer == self.n_layers - 1

    def _between(self, matrix: QuantizableMatrix, measured: Sequence[QuantizableMatrix]) -> float:
        """From the same kind in the layers before and after."""
        alike = [(known.layer or 0, self.sensitivities[known.name]) for known in measured if known.kind == matrix.kind]
        layers, logs = [layer for layer, _ in alike], [log(sensitivity) for _, sensitivity in alike]
        return exp(float(np.interp(matrix.layer or 0, layers, logs)))

    def _mean_kl(self, mix: Mix, n_chunks: int | None = None) -> float:
        return self.bench.measure(mix, SELECTION, n_chunks=n_chunks).mean

    # ---- mixes

    def _weighted(self, options: Mapping[str, Sequence[Option]]) -> dict[str, list[Option]]:
        """The same with expected KL as loss."""
        return {
            name: [option._replace(loss=option.loss * self.sensitivities[name]) for option in own]
            for name, own in options.items()
        }

    def _measure(self, mix: Mix, expected: float) -> Round:
        found = Round(mix, self.journal.figure(f"mix {_key(mix)}", lambda: self._mean_kl(mix)), expected)
        self.rounds.append(found)
        self.tell(f"mean KL {found.mean_kl:.5f} after {len(self.rounds)} mixes", len(self.rounds), len(self.rounds))
        return found

    def _trade(self, options: Mapping[str, Sequence[Option]], best: Round, budget_bytes: int) -> Round | None:
        """Take bytes from groups of matrices that hardly miss them, and give them to those that gain most."""
        moves = self._moves(self._weighted(options), best)
        sizes = {name: {option.type: option.size_bytes for option in own} for name, own in options.items()}
        free = budget_bytes - sum(sizes[name][best.mix[name]] for name in sizes)
        trades = _trades(moves, free)
        for n_trades in dict.fromkeys((len(trades), -(-len(trades) // 2), 1)):  # all at once, or the best of them
            changed = {name: t for trade in trades[:n_trades] for move in trade for name, t in move.changed.items()}
            if not changed:
                return None
            expected = best.mean_kl - sum(move.saved for trade in trades[:n_trades] for move in trade)
            found = self._measure({**best.mix, **changed}, expected)
            if found.mean_kl < best.mean_kl:
                return found
        return None

    def _moves(self, weighted: Mapping[str, Sequence[Option]], at: Round) -> list[_Move]:
        """Each group of matrices in its next larger and its next smaller types, measured."""
        groups: dict[str, list[str]] = {}
        for matrix in self.matrices:
            groups.setdefault(group_of(matrix, self.n_layers), []).append(matrix.name)
        now = _key(at.mix)
        base = self.journal.figure(f"{now} as it is", lambda: self._mean_kl(at.mix, TRADE_CHUNKS))
        moves: list[_Move] = []
        for number, (group, names) in enumerate(groups.items()):
            for step in (1, -1):
                changed, more_bytes = _stepped(weighted, at.mix, names, step)
                if changed:
                    mix = {**at.mix, **changed}
                    measured = partial(self._mean_kl, mix, TRADE_CHUNKS)
                    kl = self.journal.figure(f"{now} {group} {step:+}", measured)
                    moves.append(_Move(group, changed, more_bytes, base - kl))
            self.tell("measuring groups", number + 1, len(groups))
        return moves


class _Move(NamedTuple):
    """Other types for a group of matrices: the bytes that they take more, and the KL that was measured to be saved."""

    group: str
    changed: Mapping[str, TensorType]
    more_bytes: int
    saved: float

    @property
    def rate(self) -> float:
        """KL per byte."""
        return self.saved / self.more_bytes


def _trades(moves: Sequence[_Move], free_bytes: int) -> list[list[_Move]]:
    """Moves that gain, each with those that make room for it; a group moves once. Most gain per byte first."""
    downs = sorted((move for move in moves if move.more_bytes < 0), key=lambda move: move.rate)
    ups = sorted((move for move in moves if move.more_bytes > 0 and move.saved > 0), key=lambda move: -move.rate)
    found: list[list[_Move]] = []
    moved: set[str] = set()
    for up in ups:
        trade, free = [up], free_bytes - up.more_bytes
        for down in downs:
            if free >= 0:
                break
            if down.group not in moved and down.group != up.group:
                trade.append(down)
                free -= down.more_bytes
        if free >= 0 and up.group not in moved and sum(move.saved for move in trade) > 0:
            found.append(trade)
            moved.update(move.group for move in trade)
            free_bytes = free
    return found


def _key(mix: Mix) -> str:
    text = " ".join(f"{name}={mix[name].name}" for name in sorted(mix))
    return sha256(text.encode()).hexdigest()[:16]


def _stepped(
    weighted: Mapping[str, Sequence[Option]], mix: Mix, names: Sequence[str], step: int
) -> tuple[dict[str, TensorType], int]:
    """The next larger (1) or smaller (-1) useful type of each that has one, and the bytes that this takes more."""
    changed: dict[str, TensorType] = {}
    more_bytes = 0
    for name in names:
        now = next(option for option in weighted[name] if option.type is mix[name])
        others = [option for option in hull(weighted[name]) if (option.size_bytes - now.size_bytes) * step > 0]
        if others:
            other = others[0] if step > 0 else others[-1]
            changed[name] = other.type
            more_bytes += other.size_bytes - now.size_bytes
    return changed, more_bytes


def _near(types: Sequence[TensorType], bits: float) -> list[TensorType]:
    """Those of about so many bits; the smallest of all stays, so that any budget that can be met is."""
    return [t for t in types if t is types[0] or bits / _BITS_AROUND <= t.bits_per_element <= bits * _BITS_AROUND]
