"""The types that checkpoints for PyTorch have: what their weights become, which packages it takes, what fits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal

from madang.core.errors import CannotQuantize, InvalidRequest
from madang.formats.tensors import TensorInfo

Method = Literal["bitsandbytes", "gptq", "awq"]

GROUPS: Final = (128, 64, 32, 16)
_LAYER: Final = re.compile(r"\.\d+\.")  # a matrix outside of layers is an embedding or a head, which stay as they are
_OVERHEAD_BITS: Final = 0.6  # scales and zero points of a weight, at most, in groups of 32 and more


@dataclass(frozen=True, slots=True)
class CheckpointType:
    """A name as users know it.

    bits              that can be chosen, the usual number first
    groups            of columns that can share a scale, the usual size first; none where that is fixed
    packages          to import; ``extra`` is that of madang which brings them
    divides_rows      what the number of rows must be a multiple of
    needs_calibration whether it looks at what the matrices read
    """

    name: str
    method: Method
    extra: str
    packages: tuple[str, ...]
    bits: tuple[int, ...]
    groups: tuple[int, ...] = ()
    divides_rows: int = 1

    @property
    def needs_calibration(self) -> bool:
        """Whether it is fitted to what the matrices read."""
        return self.method != "bitsandbytes"


_BITSANDBYTES: Final = ("torch", "transformers", "accelerate", "bitsandbytes")
_GPTQMODEL: Final = ("torch", "transformers", "accelerate", "optimum", "gptqmodel")

CHECKPOINT_TYPES: Final[Mapping[str, CheckpointType]] = {
    own.name: own
    for own in (
        CheckpointType("NF4", "bitsandbytes", "torch", _BITSANDBYTES, (4,)),
        CheckpointType("FP4", "bitsandbytes", "torch", _BITSANDBYTES, (4,)),
        CheckpointType("INT8", "bitsandbytes", "torch", _BITSANDBYTES, (8,)),
        CheckpointType("GPTQ", "gptq", "gptq", _GPTQMODEL, (4, 8, 3, 2), GROUPS),
        CheckpointType("AWQ", "awq", "gptq", _GPTQMODEL, (4,), GROUPS, divides_rows=8),
    )
}


def find_checkpoint_type(name: str) -> CheckpointType | None:
    """In any case of letters; None for what is none of them."""
    return CHECKPOINT_TYPES.get(name.upper())


@dataclass(frozen=True, slots=True)
class Recipe:
    """A type with its choices made; ``group_size`` is None where the type has none."""

    type: CheckpointType
    bits: int
    group_size: int | None

    @property
    def name(self) -> str:
        """With the bits where there is a choice: GPTQ-4."""
        return f"{self.type.name}-{self.bits}" if len(self.type.bits) > 1 else self.type.name

    def size_bytes(self, tensors: Mapping[str, TensorInfo]) -> int:
        """Of a checkpoint of these, roughly and rather too much."""
        matrices = {matrix.name for matrix in layer_matrices(tensors)}
        return sum(
            round(prod(tensor.shape) * (self.bits + _OVERHEAD_BITS) / 8) if name in matrices else tensor.size_bytes
            for name, tensor in tensors.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"type": self.type.name, "bits": self.bits, "group_size": self.group_size}


def layer_matrices(tensors: Mapping[str, TensorInfo]) -> Iterator[TensorInfo]:
    """What becomes smaller."""
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and name.endswith(".weight") and _LAYER.search(name):
            yield tensor


def settle_recipe(
    chosen: CheckpointType, tensors: Mapping[str, TensorInfo], *, bits: float | None, group_size: int | None
) -> Recipe:
    """Every choice made for these matrices.

    Raises InvalidRequest for a choice that the type does not have, CannotQuantize with the first matrix that does not
    fit it.
    """
    if bits is not None and bits not in chosen.bits:
        raise InvalidRequest(
            f"{chosen.name} has {_listed(chosen.bits)} bits, not {bits:g}.", param="bits", hint="Leave --bits out."
        )
    if group_size is not None and group_size not in chosen.groups:
        offered = f"groups of {_listed(sorted(chosen.groups))}" if chosen.groups else "no groups to choose"
        raise InvalidRequest(
            f"{chosen.name} has {offered}, not {group_size}.", param="group_size", hint="Leave --group-size out."
        )
    matrices = list(layer_matrices(tensors))
    if not matrices:
        raise CannotQuantize("the model has no matrices in layers")
    for matrix in matrices:
        if matrix.shape[0] % chosen.divides_rows:
            raise CannotQuantize(
                f"{chosen.name} needs a multiple of {chosen.divides_rows} rows, '{matrix.name}' has {matrix.shape[0]}",
                hint="Take NF4 or INT8, which fit any shape.",
            )
    return Recipe(chosen, chosen.bits[0] if bits is None else int(bits), _group(chosen, matrices, group_size))


def _group(chosen: CheckpointType, matrices: list[TensorInfo], asked: int | None) -> int | None:
    """The usual size, or the largest below it that divides all rows."""
    if not chosen.groups:
        return None
    for size in chosen.groups if asked is None else (asked,):
        odd = next((matrix for matrix in matrices if matrix.shape[1] % size), None)
        if odd is None:
            return size
    assert odd is not None  # no size fitted
    possible = [size for size in GROUPS if not any(matrix.shape[1] % size for matrix in matrices)]
    raise CannotQuantize(
        f"rows of {odd.shape[1]} columns cannot be cut into groups of {size} ('{odd.name}')",
        hint=f"Use --group-size {possible[0]}." if possible else "Take NF4 or INT8, which fit any shape.",
    )


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))
