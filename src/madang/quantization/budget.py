"""The types that fit a number of bytes and lose least, found by measuring: the budget quantizer.

1. Screen: the error that each type leaves in each matrix's outputs (screen.py).
2. Measure: what that error does to the model's distributions, matrix by matrix, at one type.
3. Solve: allocation.py. 4. Measure the whole mix, correct how sensitive groups of matrices are at it, and solve again.
What it finds is certified on other text (certificate.py). All figures are kept, so that interrupted work goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Final

import numpy as np

from madang.formats.tensors import TensorType
from madang.quantization.allocation import Allocation, Option, allocate, hull
from madang.quantization.journal import Journal
from madang.quantization.matrices import QuantizableMatrix, group_of
from madang.quantization.screen import Encoder, possible_types
from madang.quantization.workbench import Mix, Workbench

PROBE_CHUNKS: Final = 2  # of those that whole mixes are measured on
MAX_ROUNDS: Final = 3
_CORRECTION: Final = 3.0  # by which a group's sensitivity changes at most in a round
_ALIGNMENT: Final = 32
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
    """The search for one model; ``sensitivities`` are KL per error of outputs."""

    matrices: Sequence[QuantizableMatrix]
    encoder: Encoder
    bench: Workbench
    journal: Journal
    n_layers: int
    tell: Tell = lambda what, done, total: None
    sensitivities: dict[str, float] = field(default_factory=dict)
    corrections: dict[str, float] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def run(self, budget_bytes: int) -> Round:
        """The best mix that was measured. Raises InvalidRequest when the budget is too small."""
        n_elements = sum(matrix.n_rows * matrix.n_columns for matrix in self.matrices)
        bits = 8 * budget_bytes / n_elements
        options = self._screen(bits)
        allocate({name: [Option(t, size, 0.0) for t, size, _ in own] for name, own in options.items()}, budget_bytes)
        self._probe(options, bits)
        for number in range(MAX_ROUNDS):
            found = allocate(self._weighted(options), budget_bytes)
            if any(known.mix == found.types for known in self.rounds):
                break
            self.rounds.append(self._measure(found))
            self.tell(f"round {number + 1}: mean KL {self.rounds[-1].mean_kl:.5f}", number + 1, MAX_ROUNDS)
            if number + 1 < MAX_ROUNDS:
                self._correct(options, min(self.rounds, key=lambda known: known.mean_kl))
        return min(self.rounds, key=lambda known: known.mean_kl)

    # ---- what a type does to a matrix

    def _screen(self, bits: float) -> dict[str, list[Option]]:
        """Every type of every matrix, with the error of its outputs as loss."""
        options: dict[str, list[Option]] = {}
        for number, matrix in enumerate(self.matrices):
            options[matrix.name] = [
                Option(t, aligned(matrix.size_bytes(t)), self.encoder.errors(matrix, t))
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
            kl = self.journal.figure(key, lambda m=matrix, t=option.type: self._mean_kl({m.name: t}, PROBE_CHUNKS))  # type: ignore[misc]
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
        alike = [known for known in measured if known.kind == matrix.kind and known.layer is not None]
        layers = [known.layer for known in alike]
        logs = [log(self.sensitivities[known.name]) for known in alike]
        return exp(float(np.interp(matrix.layer or 0, layers, logs)))

    def _mean_kl(self, mix: Mix, n_chunks: int | None = None) -> float:
        return self.bench.measure(mix, n_chunks=n_chunks).mean

    # ---- mixes

    def _weighted(self, options: Mapping[str, Sequence[Option]]) -> dict[str, list[Option]]:
        """The same with expected KL as loss."""
        weights = {
            matrix.name: self.sensitivities[matrix.name] * self.corrections.get(group_of(matrix, self.n_layers), 1.0)
            for matrix in self.matrices
        }
        return {
            name: [Option(option.type, option.size_bytes, option.loss * weights[name]) for option in own]
            for name, own in options.items()
        }

    def _measure(self, found: Allocation) -> Round:
        key = "mix " + " ".join(f"{name}={found.types[name].name}" for name in sorted(found.types))
        return Round(found.types, self.journal.figure(key, lambda: self._mean_kl(found.types)), found.loss)

    def _correct(self, options: Mapping[str, Sequence[Option]], at: Round) -> None:
        """Let each group of matrices have the next larger type, and compare what it gains with what was expected."""
        weighted = self._weighted(options)
        groups: dict[str, list[str]] = {}
        for matrix in self.matrices:
            groups.setdefault(group_of(matrix, self.n_layers), []).append(matrix.name)
        now = _key(at.mix)
        base = self.journal.figure(f"{now} base", lambda: self._mean_kl(at.mix, PROBE_CHUNKS * 2))
        for number, (group, names) in enumerate(groups.items()):
            changed, expected = _raised(weighted, at.mix, names)
            if expected > 0:
                kl = self.journal.figure(
                    f"{now} {group}",
                    lambda c=changed: self._mean_kl({**at.mix, **c}, PROBE_CHUNKS * 2),  # type: ignore[misc]
                )
                ratio = min(max((base - kl) / expected, 1 / _CORRECTION), _CORRECTION)
                self.corrections[group] = self.corrections.get(group, 1.0) * ratio
            self.tell("measuring groups", number + 1, len(groups))


def _key(mix: Mix) -> str:
    from hashlib import sha256

    text = " ".join(f"{name}={mix[name].name}" for name in sorted(mix))
    return sha256(text.encode()).hexdigest()[:16]


def _raised(
    weighted: Mapping[str, Sequence[Option]], mix: Mix, names: Sequence[str]
) -> tuple[dict[str, TensorType], float]:
    """The next larger useful type of each of these, and the loss that this should save."""
    changed: dict[str, TensorType] = {}
    saved = 0.0
    for name in names:
        now = next(option for option in weighted[name] if option.type is mix[name])
        larger = [option for option in hull(weighted[name]) if option.size_bytes > now.size_bytes]
        if larger and larger[0].loss < now.loss:
            changed[name] = larger[0].type
            saved += now.loss - larger[0].loss
    return changed, saved


def _near(types: Sequence[TensorType], bits: float) -> list[TensorType]:
    """Those of about so many bits; the smallest of all stays, so that any budget that can be met is."""
    return [t for t in types if t is types[0] or bits / _BITS_AROUND <= t.bits_per_element <= bits * _BITS_AROUND]


def aligned(n_bytes: int) -> int:
    """What a tensor of so many bytes takes in the file."""
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
