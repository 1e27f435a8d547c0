"""A LoRA adapter folded into the full-precision weights that it was trained on: W + s B A, tensor by tensor.

Its own arithmetic on purpose: the parity gate compares the result with PEFT's unmerged computation. LoRA
(arXiv:2106.09685), rsLoRA (arXiv:2312.03732), DoRA (arXiv:2402.09353), and modules that were saved whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.conversion.streams import values_of
from madang.core.errors import AdapterMismatch, CannotConvert, MalformedFile
from madang.formats.adapters import read_adapter
from madang.formats.adapters.peft import WEIGHTS_FILE, adapter_scale, read_config, refuse_what_is_not_computed
from madang.formats.families import describe_folder
from madang.formats.safetensors import CheckpointTensors, read_safetensors
from madang.formats.tensors import TensorInfo
from madang.quantization.encoding import Matrix

_KNOWN: Final = ("use_dora", "bias", "modules_to_save")
_PREFIX: Final = "base_model.model."
_FACTOR: Final = re.compile(r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?")
_EMBEDDING: Final = re.compile(r"(?P<module>.+)\.(?P<kind>lora_embedding_[AB])(?:\.default)?")
_BASE: Final = re.compile(r"(?P<module>.+)\.(?P<kind>base_layer)\.weight")  # PEFT keeps embeddings that it changes
_SAVED: Final = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.default)?)?\.(?P<kind>weight|bias)")


@dataclass(slots=True)
class _Change:
    """What an adapter does to one tensor.

    parts        lora_A, lora_B, lora_magnitude_vector, base_layer, or saved; in a file, or in memory
    scale        of the product of the factors
    transposed   whether the base has inputs as rows
    """

    module: str
    parts: dict[str, TensorInfo | Matrix] = field(default_factory=dict)
    scale: float = 1.0
    transposed: bool = False


class FoldedModel:
    """The tensors of a folder as they are with an adapter in them, one at a time."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """``adapter`` is a PEFT folder or a GGUF file; None leaves all as it is.

        Raises CannotConvert for changes that have no place in the folder, UnsupportedModel for adapters of another
        kind than LoRA, AdapterMismatch, MalformedFile.
        """
        self.tensors = read_safetensors(folder)
        self._changes: dict[str, _Change] = {}
        if adapter is not None:
            self._changes = _changes_of_file(adapter, folder) if adapter.is_file() else _changes(adapter, self.tensors)
        for name, change in self._changes.items():
            _require_shape(self.tensors[name], change)

    def is_changed(self, name: str) -> bool:
        """Whether the adapter says anything of that tensor."""
        return name in self._changes

    def values(self, name: str) -> Matrix:
        """A tensor, float32. Raises KeyError, MalformedFile for what is no number."""
        values = values_of(self.tensors[name])
        change = self._changes.get(name)
        return values if change is None else _changed(name, values, change)


# ---- which tensor is changed by what


def _changes(adapter: Path, base: CheckpointTensors) -> dict[str, _Change]:
    """Of a PEFT folder, by the base's names. Raises as FoldedModel."""
    config = read_config(adapter)
    refuse_what_is_not_computed(adapter, config, known=_KNOWN)
    found: dict[str, _Change] = {}
    for name, tensor in read_safetensors(adapter / WEIGHTS_FILE).items():
        module, kind, end = _understood(name.removeprefix(_PREFIX))
        target = _place(adapter.name, f"{module}.{end}", base)
        found.setdefault(target, _Change(module)).parts[kind] = tensor
    for target, change in found.items():
        _require_whole(adapter.name, target, change)
        first = change.parts.get("lora_A", change.parts.get("lora_embedding_A"))
        if first is not None:
            change.scale = adapter_scale(Path(target), config, change.module, first.shape[0])
        change.transposed = bool(config.get("fan_in_fan_out")) and "lora_A" in change.parts
    return found


def _changes_of_file(adapter: Path, folder: Path) -> dict[str, _Change]:
    """Of a GGUF file, whose factors have their scale in them."""
    description = describe_folder(folder)
    found = {}
    for name, factors in read_adapter(adapter, description).matrices.items():
        tensor = description.tensors[name]
        if not isinstance(tensor, TensorInfo):
            raise CannotConvert(f"the adapter changes '{name}', which this base holds in another form")
        found[tensor.name] = _Change(name, {"lora_A": factors.a, "lora_B": factors.b})
    return found


def _understood(name: str) -> tuple[str, str, str]:
    """Module, kind of part, and what ends the name of the changed tensor. Raises CannotConvert."""
    if (match := _FACTOR.fullmatch(name)) is not None:
        return match["module"], match["kind"], "weight"
    if (match := _EMBEDDING.fullmatch(name) or _BASE.fullmatch(name)) is not None:
        return match["module"], match["kind"], "weight"
    if "lora" not in name and "token_adapter" not in name and (match := _SAVED.fullmatch(name)) is not None:
        return match["module"], "saved", match["kind"]
    raise CannotConvert(f"the adapter's tensor '{name}' is nothing that can be folded into weights")


def _place(adapter: str, name: str, base: Mapping[str, TensorInfo]) -> str:
    """The base's own name of a module's tensor: some folders are saved without the outermost module's name."""
    ends = [own for own in base if own == name or name.endswith(f".{own}") or own.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if name.startswith("lm_head.") and not any(own.endswith("lm_head.weight") for own in base):
        raise CannotConvert(
            "its output head is tied to its embeddings, and the adapter changes the head alone",
            hint="Train without lm_head in target_modules, or with ensure_weight_tying.",
        )
    raise AdapterMismatch(adapter, name, "the base has no such tensor")


def _require_whole(adapter: str, target: str, change: _Change) -> None:
    kinds = set(change.parts) - {"base_layer"}
    pairs = ({"lora_A", "lora_B"}, {"lora_A", "lora_B", "lora_magnitude_vector"}, {"saved"})
    if kinds not in (*pairs, {"lora_embedding_A", "lora_embedding_B"}):
        raise MalformedFile(adapter, f"of '{target}' it holds {', '.join(sorted(kinds))}, which do not belong together")


# ---- the arithmetic


def _require_shape(tensor: TensorInfo, change: _Change) -> None:
    """Raises AdapterMismatch before anything is written."""
    parts = change.parts
    if "saved" in parts:
        added = parts["saved"].shape
    elif "lora_embedding_A" in parts:
        added = (parts["lora_embedding_A"].shape[1], parts["lora_embedding_B"].shape[0])
    else:
        added = (parts["lora_B"].shape[0], parts["lora_A"].shape[1])
    if added not in (tensor.shape, tensor.shape[::-1]):
        raise AdapterMismatch(change.module, tensor.name, f"it is for {added}, and the base has {tensor.shape}")


def _changed(name: str, values: Matrix, change: _Change) -> Matrix:
    parts: dict[str, Any] = {kind: _values(part).astype(np.float64) for kind, part in change.parts.items()}
    if "saved" in parts:
        return np.ascontiguousarray(parts["saved"], np.float32)
    if "lora_embedding_A" in parts:
        added = (parts["lora_embedding_B"] @ parts["lora_embedding_A"]).T
    else:
        added = parts["lora_B"] @ parts["lora_A"]
    added *= change.scale
    values = np.asarray(parts.get("base_layer", values), np.float32)
    whole = (values.T if change.transposed else values).astype(np.float64) + added
    if "lora_magnitude_vector" in parts:
        norms = np.sqrt((whole * whole).sum(axis=1, keepdims=True))
        whole *= parts["lora_magnitude_vector"].reshape(-1, 1) / norms
    if not math.isfinite(float(whole.sum())):
        raise MalformedFile(name, "with the adapter in it, it has values that are no finite numbers")
    return np.ascontiguousarray(whole.T if change.transposed else whole, np.float32)


def _values(part: TensorInfo | Matrix) -> Matrix:
    return values_of(part) if isinstance(part, TensorInfo) else part
