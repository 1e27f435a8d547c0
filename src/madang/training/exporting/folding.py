"""A LoRA adapter folded into the full-precision weights that it was trained on: W + s B A, tensor by tensor.

Its own arithmetic on purpose: the parity gate compares the result with PEFT's unmerged computation. LoRA
(arXiv:2106.09685), rsLoRA (arXiv:2312.03732), DoRA (arXiv:2402.09353), and modules that were saved whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.conversion.streams import values_of
from madang.core.errors import AdapterMismatch, CannotConvert, InvalidRequest, MalformedFile
from madang.core.progress import Progress, SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.adapters.peft import CONFIG_FILE as ADAPTER_CONFIG
from madang.formats.adapters.peft import WEIGHTS_FILE, adapter_scale
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.gguf_writing import TensorToWrite, read_chunks
from madang.formats.json_object import read_json_object
from madang.formats.safetensors import CheckpointTensors, read_safetensors
from madang.formats.safetensors_writing import write_safetensors
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import FLOAT_TYPES, Matrix, quantize
from madang.training.exporting.trained import Trained, require_full_precision

DTYPES: Final = {TensorType.F32: "float32", TensorType.F16: "float16", TensorType.BF16: "bfloat16"}
_PREFIX: Final = "base_model.model."
_FACTOR: Final = re.compile(r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?")
_EMBEDDING: Final = re.compile(r"(?P<module>.+)\.(?P<kind>lora_embedding_[AB])(?:\.default)?")
_BASE: Final = re.compile(r"(?P<module>.+)\.(?P<kind>base_layer)\.weight")  # PEFT keeps embeddings that it changes
_SAVED: Final = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.default)?)?\.(?P<kind>weight|bias)")
_REST_BYTES: Final = 64_000_000


@dataclass(slots=True)
class _Change:
    """What an adapter does to one tensor: ``parts`` are lora_A, lora_B, lora_magnitude_vector, base_layer, or saved."""

    module: str
    parts: dict[str, TensorInfo] = field(default_factory=dict)


def fold_adapter(
    trained: Trained, target: Path, tensor_type: TensorType | None = None, *, progress: Progress | None = None
) -> int:
    """Write the model with its adapter folded in (or as it is, without one) as the folder ``target``; return its bytes.

    tensor_type   F32, F16 or BF16 for all weights; None keeps what each has

    Tied heads stay tied. Raises InvalidRequest when something is at ``target``, CannotConvert for a quantized base and
    for changes that have no place in the folder, AdapterMismatch, MalformedFile, NotEnoughDisk; nothing is at
    ``target`` then.
    """
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="target", hint="Remove it, or name another place.")
    if tensor_type not in (None, *FLOAT_TYPES):
        raise InvalidRequest("Folders hold F32, F16 and BF16.", param="type", hint="For fewer bits: --to gguf:Q4_K_M.")
    require_full_precision(trained.folder)
    base = read_safetensors(trained.folder)
    changes = {} if trained.adapter is None else _changes(trained, base)
    config = {} if trained.adapter is None else read_json_object(trained.adapter / ADAPTER_CONFIG, MAX_CONFIG_BYTES)
    to_write = [_folded(base[name], changes.get(name), config, tensor_type) for name in base]
    n_bytes = sum(one.size_bytes for one in to_write)
    require_disk(target.parent, n_bytes + _REST_BYTES)
    progress = progress or SilentProgress()
    progress.started(n_bytes)
    with within_disk(target.parent, n_bytes + _REST_BYTES), replacing(target) as folder:
        folder.mkdir()
        trained.write_settings(folder)
        if tensor_type is not None:
            _state_dtype(folder, tensor_type)
        write_safetensors(folder, to_write, progress)
    progress.finished()
    return n_bytes


def require_fitting(folder: Path, adapter: Path) -> None:
    """Raise AdapterMismatch, CannotConvert or MalformedFile for an adapter that is not of the model in ``folder``."""
    base = read_safetensors(folder)
    for target, change in _changes(Trained("", folder, adapter), base).items():
        _require_shape(base[target], change)


def _state_dtype(folder: Path, tensor_type: TensorType) -> None:
    config = read_json_object(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    config.pop("torch_dtype", None)
    config["dtype"] = DTYPES[tensor_type]
    (folder / CONFIG_FILE).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


# ---- which tensor is changed by what


def _changes(trained: Trained, base: CheckpointTensors) -> dict[str, _Change]:
    """By the base's names. Raises AdapterMismatch, CannotConvert."""
    assert trained.adapter is not None
    adapter = read_safetensors(trained.adapter / WEIGHTS_FILE)
    tied = _is_tied(trained.folder)
    found: dict[str, _Change] = {}
    for name, tensor in adapter.items():
        module, kind, end = _understood(name.removeprefix(_PREFIX))
        target = _place(trained.adapter.name, f"{module}.{end}", base, tied=tied)
        change = found.setdefault(target, _Change(module))
        change.parts[kind] = tensor
    for target, change in found.items():
        _require_whole(trained.adapter.name, target, change)
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


def _place(adapter: str, name: str, base: Mapping[str, TensorInfo], *, tied: bool) -> str:
    """The base's own name of a module's tensor: some folders are saved without the outermost module's name."""
    ends = [own for own in base if own == name or name.endswith(f".{own}") or own.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if tied and name.startswith("lm_head."):
        raise CannotConvert(
            "its output head is tied to its embeddings, and the adapter changes the head alone",
            hint="Train without lm_head in target_modules, or with ensure_weight_tying.",
        )
    raise AdapterMismatch(adapter, name, "the base has no such tensor")


def _is_tied(folder: Path) -> bool:
    names = read_safetensors(folder)
    return not any(name.endswith("lm_head.weight") for name in names)


def _require_whole(adapter: str, target: str, change: _Change) -> None:
    kinds = set(change.parts) - {"base_layer"}
    pairs = ({"lora_A", "lora_B"}, {"lora_A", "lora_B", "lora_magnitude_vector"}, {"saved"})
    if kinds not in (*pairs, {"lora_embedding_A", "lora_embedding_B"}):
        raise MalformedFile(adapter, f"of '{target}' it holds {', '.join(sorted(kinds))}, which do not belong together")


# ---- the arithmetic


def _folded(
    tensor: TensorInfo, change: _Change | None, config: Mapping[str, Any], tensor_type: TensorType | None
) -> TensorToWrite:
    """The tensor as it is written; its values are computed when they are asked for."""
    chosen = tensor.type if tensor_type is None else tensor_type
    if change is not None:
        _require_shape(tensor, change)

    def data() -> Iterator[Any]:
        if change is None and chosen == tensor.type:
            yield from read_chunks(tensor)
            return
        values = values_of(tensor)
        if change is not None:
            values = _changed(tensor.name, values, change, config)
        rows = values.reshape(1, -1) if values.ndim == 1 else values.reshape(-1, values.shape[-1])
        yield quantize(np.ascontiguousarray(rows, np.float32), chosen, n_threads=1)

    return TensorToWrite(tensor.name, chosen, tensor.shape, data)


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


def _changed(name: str, values: Matrix, change: _Change, config: Mapping[str, Any]) -> Matrix:
    parts = {kind: values_of(tensor).astype(np.float64) for kind, tensor in change.parts.items()}
    if "saved" in parts:
        return parts["saved"].astype(np.float32)
    if "lora_embedding_A" in parts:
        a, b = parts["lora_embedding_A"], parts["lora_embedding_B"]
        added = (b @ a).T
    else:
        a, b = parts["lora_A"], parts["lora_B"]
        added = b @ a
    added *= adapter_scale(Path(name), config, change.module, len(a))
    values = np.asarray(parts.get("base_layer", values), np.float32)
    transposes = bool(config.get("fan_in_fan_out")) and "lora_A" in parts
    whole = (values.T if transposes else values).astype(np.float64) + added
    if "lora_magnitude_vector" in parts:
        norms = np.sqrt((whole * whole).sum(axis=1, keepdims=True))
        whole *= parts["lora_magnitude_vector"].reshape(-1, 1) / norms
    if not math.isfinite(float(whole.sum())):
        raise MalformedFile(name, "with the adapter in it, it has values that are no finite numbers")
    return np.ascontiguousarray(whole.T if transposes else whole, np.float32)
