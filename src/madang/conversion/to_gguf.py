"""Hugging Face folder -> GGUF file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from madang.conversion.checking import require_same_model
from madang.conversion.streams import Conversion, row_order
from madang.core.errors import InvalidRequest
from madang.core.progress import Progress
from madang.formats.families import describe_folder, describe_gguf, gguf_form
from madang.formats.families.forms import PlacedTensor, place_tensors
from madang.formats.folder import ModelFolder, read_folder
from madang.formats.gguf import read_gguf
from madang.formats.gguf_writing import TensorToWrite, ValueToWrite, WrittenFile, write_gguf
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorInfo, TensorSource, TensorType
from madang.formats.tokenizers.to_gguf import gguf_tokenizer

TYPES: Final = (TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0)
# general.file_type, by which programs name the file's type.
_FILE_TYPES: Final[Mapping[TensorType, int]] = {
    TensorType.F32: 0,
    TensorType.F16: 1,
    TensorType.Q8_0: 7,
    TensorType.BF16: 32,
}
# Small, or read one row at a time: float32 in every file, as ggml's own converter has them.
_ALWAYS_FLOAT32: Final = ("norm", "router", "position_embedding", "type_embedding")


def to_gguf(
    folder: Path,
    target: Path,
    tensor_type: TensorType | None = None,
    *,
    name: str | None = None,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> WrittenFile:
    """Write the model in ``folder`` as the GGUF file ``target``.

    tensor_type   of matrices, one of TYPES; None keeps the one that most of the folder's weights have. Norms, vectors
                  and a few small tensors are F32; where rows are no whole blocks of Q8_0, F16 takes its place
    name          what the file calls the model; None is the folder's own name

    Raises CannotConvert for what GGUF cannot say, NotEnoughDisk, and what reading the folder raises; ``target`` is what
    it was before then.
    """
    source = read_folder(folder)
    description = describe_folder(folder)
    chosen = _usual_type(description) if tensor_type is None else tensor_type
    if chosen not in TYPES:
        raise InvalidRequest(
            f"Folders are converted to {', '.join(one.name for one in TYPES)}, not to {chosen.name}.",
            param="dtype",
            hint="Convert to f16 first, then: madang quantize FILE --type " + chosen.name,
        )
    tensors = _with_all_types(source, description)
    form = gguf_form(source, description)
    spec = description.spec
    order = row_order(spec, interleaved=form.interleaved)
    conversion = Conversion(spec, tensors, order, os.cpu_count() or 1 if n_threads is None else n_threads)
    n_experts = 0 if spec.experts is None else spec.experts.n_experts
    placed = place_tensors(form.names, "", tensors, spec.n_layers, n_experts)
    to_write = [conversion.write(one, _type_of(one, conversion.shape(one), chosen)) for one in placed]
    vectors = [_vector(vector, values) for vector, values in form.vectors.items()]
    metadata: dict[str, ValueToWrite] = {
        "general.architecture": form.architecture,
        "general.type": "model",
        "general.name": name or folder.resolve().name,
        "general.file_type": _FILE_TYPES[chosen],
        "general.quantization_version": 2,
        **{f"{form.architecture}.{key}": value for key, value in form.metadata.items()},
        **gguf_tokenizer(folder, spec.vocab_size, source.architecture),
    }
    if "type_embedding" in tensors:
        metadata["tokenizer.ggml.token_type_count"] = tensors["type_embedding"].shape[0]
    _require_sayable(description, metadata, to_write, vectors)
    return write_gguf(target, metadata, [*to_write, *vectors], progress=progress)


def _require_sayable(
    description: ModelDescription,
    metadata: Mapping[str, ValueToWrite],
    to_write: Sequence[TensorToWrite],
    vectors: Sequence[TensorToWrite],
) -> None:
    """Raise CannotConvert when the file would be read as another model.

    That is seen before gigabytes are written: of all tensors, a reader looks into none but the vectors.
    """
    with TemporaryDirectory() as work:
        path = Path(work, "model.gguf")
        write_gguf(path, metadata, vectors)
        file = read_gguf(path)
        tensors = {one.name: TensorInfo(one.name, one.type, one.shape, path, 0) for one in to_write}
        whole = replace(file, tensors={**tensors, **file.tensors})
        require_same_model(description, lambda: describe_gguf(whole), "GGUF")


def _usual_type(description: ModelDescription) -> TensorType:
    counts: Counter[TensorType] = Counter()
    for tensor in description.tensors.values():
        counts[tensor.type] += tensor.size_bytes
    most = counts.most_common(1)[0][0]
    return most if most in TYPES else TensorType.F16


def _with_all_types(source: ModelFolder, description: ModelDescription) -> dict[str, TensorSource]:
    """The tensors, with the embeddings of all token types where the description has only the first of them."""
    tensors = dict(description.tensors)
    if "type_embedding" in tensors:
        tensors["type_embedding"] = source.tensors[tensors["type_embedding"].name]
    return tensors


def _type_of(placed: PlacedTensor, shape: tuple[int, ...], chosen: TensorType) -> TensorType:
    part = placed.parts[0].removesuffix(".bias")
    if len(shape) == 1 or part.endswith(_ALWAYS_FLOAT32):
        return TensorType.F32
    return TensorType.F16 if shape[-1] % chosen.block_elements else chosen


def _vector(name: str, values: tuple[float, ...]) -> TensorToWrite:
    return TensorToWrite(name, TensorType.F32, (len(values),), lambda: np.array(values, "<f4"))
