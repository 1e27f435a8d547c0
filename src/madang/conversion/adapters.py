"""LoRA adapters in the other format: PEFT folder -> GGUF file, GGUF file -> PEFT folder.

An adapter has the names and the rows of the model that it was trained on, so that model is needed, in either format.
Factors are written as float32, the adapter's own scale included.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.conversion.streams import permuted_rows, row_order
from madang.core.errors import CannotConvert, InvalidRequest, ModelError
from madang.core.progress import SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.adapters import AdapterDescription, LowRank, read_adapter
from madang.formats.adapters.peft import CONFIG_FILE, WEIGHTS_FILE
from madang.formats.families import describe_model, folder_form, gguf_form
from madang.formats.families.forms import PlacedTensor, place_tensors
from madang.formats.families.names import Names
from madang.formats.families.table import Format
from madang.formats.folder import read_folder
from madang.formats.gguf import read_gguf
from madang.formats.gguf_writing import TensorToWrite, ValueToWrite, write_gguf
from madang.formats.safetensors_writing import write_file
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType

_PREFIX: Final = "base_model.model."
_TRANSPOSING: Final = "gpt2"  # whose modules keep inputs as rows, while factors are as everywhere


def adapter_to_gguf(path: Path, target: Path, base: Path, base_format: Format) -> int:
    """Write the adapter at ``path``, of the model at ``base``, as a GGUF file, and return its bytes.

    Raises AdapterMismatch, CannotConvert, NotEnoughDisk, and what reading both raises.
    """
    description = describe_model(base, base_format)
    adapter = read_adapter(path, description)
    source = read_gguf(base) if base_format == "gguf" else read_folder(base)
    form = gguf_form(source, description)
    tensors: list[TensorToWrite] = []
    for placed, matrix in _placed(adapter, description, form.names, "", interleaved=form.interleaved):
        tensors += [_factor(f"{placed.name}.lora_a", matrix.a), _factor(f"{placed.name}.lora_b", matrix.b)]
    metadata: dict[str, ValueToWrite] = {
        "general.architecture": form.architecture,
        "general.type": "adapter",
        "general.name": path.resolve().stem,
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,  # the scale is in the factors
    }
    return write_gguf(target, metadata, tensors).size_bytes


def adapter_to_folder(path: Path, target: Path, base: Path, base_format: Format) -> int:
    """Write the adapter as a PEFT folder, and return its bytes; errors as the other, and InvalidRequest for a target
    that exists.
    """
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="dst", hint="Remove it, or name another place.")
    description = describe_model(base, base_format)
    adapter = read_adapter(path, description)
    source = read_gguf(base) if base_format == "gguf" else read_folder(base)
    form = folder_form(source, description)
    tensors: list[TensorToWrite] = []
    ranks: dict[str, int] = {}
    for placed, matrix in _placed(adapter, description, form.names, form.prefix, interleaved=False):
        module = placed.name.removesuffix(".weight")
        ranks[module] = len(matrix.a)
        names = (f"{_PREFIX}{module}.lora_{factor}.weight" for factor in "AB")
        tensors += [_factor(name, values) for name, values in zip(names, matrix, strict=True)]
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    require_disk(target.parent, total_bytes)
    try:
        with within_disk(target.parent, total_bytes), replacing(target) as folder:
            folder.mkdir()
            config = _config(ranks, base, transposed=description.spec.architecture == _TRANSPOSING)
            folder.joinpath(CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            write_file(folder / WEIGHTS_FILE, tensors, SilentProgress())
            read_adapter(folder, description)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror}.", hint="Choose another place.") from error
    return total_bytes


def _config(ranks: Mapping[str, int], base: Path, *, transposed: bool) -> dict[str, Any]:
    """What PEFT wants to know; alpha is the rank, so that its scale is 1."""
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: rank for module, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "inference_mode": True,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted({_module(name) for name in ranks}),
    }


def _module(name: str) -> str:
    """The end of a module's name, without what stands before its number."""
    return ".".join(name.split(".")[-2:])


def _placed(
    adapter: AdapterDescription, model: ModelDescription, names: Names, prefix: str, *, interleaved: bool
) -> Iterator[tuple[PlacedTensor, LowRank]]:
    """The target's tensors that change, and by what."""
    spec = model.spec
    order = row_order(spec, interleaved=interleaved)
    n_numbers = spec.n_heads if spec.experts is None else spec.experts.n_experts
    for placed in place_tensors(names, prefix, model.tensors, spec.n_layers, n_numbers):
        if adapter.matrices.keys().isdisjoint(placed.parts):
            continue
        parts = [adapter.matrices.get(part) or _nothing(model.tensors[part].shape) for part in placed.parts]
        ordered = [
            LowRank(matrix.a, permuted_rows(spec, order, part, matrix.b))
            for part, matrix in zip(placed.parts, parts, strict=True)
        ]
        yield placed, _joined(placed, ordered, transposes=spec.architecture == _TRANSPOSING)


def _nothing(shape: tuple[int, ...]) -> LowRank:
    """Factors of rank 0."""
    return LowRank(np.zeros((0, shape[1]), np.float32), np.zeros((shape[0], 0), np.float32))


def _joined(placed: PlacedTensor, parts: Sequence[LowRank], *, transposes: bool) -> LowRank:
    """One pair of factors for a tensor of several parts: below each other, and side by side where they differ."""
    if len(parts) == 1:
        return parts[0]
    if placed.reshaped is None or not (placed.reshaped.plain or transposes):
        raise CannotConvert(f"the rows of its parts lie between each other in '{placed.name}'")
    first = parts[0].a
    if all(np.array_equal(part.a, first) for part in parts):
        return LowRank(first, np.concatenate([part.b for part in parts]))
    b = np.zeros((sum(len(part.b) for part in parts), sum(len(part.a) for part in parts)), np.float32)
    row = column = 0
    for part in parts:
        n_rows, rank = part.b.shape
        b[row : row + n_rows, column : column + rank] = part.b
        row, column = row + n_rows, column + rank
    return LowRank(np.concatenate([part.a for part in parts]), b)


def _factor(name: str, values: np.ndarray[Any, np.dtype[np.float32]]) -> TensorToWrite:
    return TensorToWrite(name, TensorType.F32, values.shape, lambda: np.ascontiguousarray(values, np.float32))
