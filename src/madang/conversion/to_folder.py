"""GGUF file -> Hugging Face folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.conversion.checking import require_same_model
from madang.conversion.streams import Conversion, row_order
from madang.core.errors import InvalidRequest, ModelError
from madang.core.progress import Progress, SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.families import describe_folder, describe_gguf, folder_form
from madang.formats.families.forms import FolderForm, place_tensors
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.safetensors_writing import SHARD_BYTES, write_safetensors
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType
from madang.formats.tokenizers.pretokenizers import pretokenizer
from madang.formats.tokenizers.to_json import write_tokenizer
from madang.formats.tokenizers.tokenizer import Tokenizer

TYPES: Final = (TensorType.F32, TensorType.F16, TensorType.BF16)
_DTYPES: Final = {TensorType.F32: "float32", TensorType.F16: "float16", TensorType.BF16: "bfloat16"}
# The other files are a few hundred kilobytes and a tokenizer.
_REST_BYTES: Final = 64_000_000


def to_folder(
    path: Path,
    target: Path,
    tensor_type: TensorType | None = None,
    *,
    n_threads: int | None = None,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write the model of the GGUF file at ``path`` as the folder ``target``, and return its bytes.

    tensor_type   of all weights, one of TYPES; None is F32 for a file of float32, BF16 for one of bfloat16, else F16

    Raises InvalidRequest when something is at ``target``, CannotConvert for what config.json cannot say, NotEnoughDisk,
    and what reading the file raises; nothing is at ``target`` then.
    """
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="dst", hint="Remove it, or name another place.")
    file = read_gguf(path)
    description = describe_gguf(file)
    chosen = _usual_type(file) if tensor_type is None else tensor_type
    if chosen not in TYPES:
        raise InvalidRequest(f"Folders hold {', '.join(one.name for one in TYPES)}, not {chosen.name}.", param="dtype")
    form, tensors = _form(file, description)
    spec = description.spec
    order = row_order(spec, interleaved=False)
    conversion = Conversion(spec, tensors, order, os.cpu_count() or 1 if n_threads is None else n_threads)
    n_numbers = spec.n_heads if spec.experts is None else spec.experts.n_experts
    placed = place_tensors(form.names, form.prefix, tensors, spec.n_layers, n_numbers)
    to_write = [conversion.write(one, chosen) for one in placed]
    total_bytes = sum(tensor.size_bytes for tensor in to_write)
    require_disk(target.parent, total_bytes + _REST_BYTES)
    progress = progress or SilentProgress()
    progress.started(total_bytes)
    try:
        with within_disk(target.parent, total_bytes + _REST_BYTES), replacing(target) as folder:
            folder.mkdir()
            tokenizer = write_tokenizer(file, folder)
            _write_settings(folder, file, form, tokenizer, chosen)
            _write_pooling(folder, description)
            write_safetensors(folder, to_write, progress, shard_bytes=shard_bytes)
            require_same_model(description, lambda: describe_folder(folder), "a folder")
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written: {error.strerror}.", hint="Choose another place for it."
        ) from error
    progress.finished()
    return sum(one.stat().st_size for one in target.rglob("*") if one.is_file())


def loading_note(file: GGUFFile) -> str | None:
    """What whoever loads the folder with transformers has to know; None for nothing."""
    split_by = file.get_str("tokenizer.ggml.pre", None)
    if file.architecture != "qwen2" or split_by is None or pretokenizer(split_by) == pretokenizer("qwen2"):
        return None
    return (
        "The AutoTokenizer of transformers 5 splits words of every qwen2 as Qwen does, and this model does not: "
        "load its tokenizer with PreTrainedTokenizerFast.from_pretrained(FOLDER)."
    )


def _usual_type(file: GGUFFile) -> TensorType:
    matrices = {tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1}
    only = matrices.pop() if len(matrices) == 1 else TensorType.F16
    return only if only in TYPES else TensorType.F16


def _form(file: GGUFFile, description: ModelDescription) -> tuple[FolderForm, dict[str, Any]]:
    """The form and its tensors, with the embeddings of all token types where there are some."""
    tensors = dict(description.tensors)
    if "type_embedding" in tensors:
        tensors["type_embedding"] = file.tensors[tensors["type_embedding"].name]
    whole = ModelDescription(description.spec, tensors, description.embedding)
    form = folder_form(file, whole)
    return form, dict(tensors if form.tensors is None else form.tensors)


def _write_settings(
    folder: Path, file: GGUFFile, form: FolderForm, tokenizer: Tokenizer, tensor_type: TensorType
) -> None:
    padding = file.get_int("tokenizer.ggml.padding_token_id", None)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": padding}
    known = {name: value for name, value in ids.items() if value is not None}
    # Where there is none, null: the classes of some families have a default that their own vocabulary has.
    stated = known if form.is_encoder else ids
    config = _shortened({**form.config, **stated})
    _write_json(folder / "config.json", {**config, "dtype": _DTYPES[tensor_type]})
    ends = sorted(tokenizer.end_ids)
    _write_json(folder / "generation_config.json", known | ({"eos_token_id": ends} if len(ends) > 1 else {}))


def _shortened(value: Any) -> Any:
    """The same with the fewest digits that float32, which the file had, tells apart: 1e-05, not 9.99999974e-06."""
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return float(str(np.float32(value))) if isinstance(value, float) and np.float32(value) == value else value


def _write_pooling(folder: Path, description: ModelDescription) -> None:
    """The files by which sentence-transformers knows how a text becomes a vector."""
    if description.embedding is None:
        return
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
        if kind != "Normalize" or description.embedding.normalized
    ]
    _write_json(folder / "modules.json", modules)
    flags = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
    pooling: dict[str, Any] = {"word_embedding_dimension": description.spec.n_embd}
    pooling |= {flag: mode == description.embedding.pooling for mode, flag in flags.items()}
    folder.joinpath("1_Pooling").mkdir()
    _write_json(folder / "1_Pooling" / "config.json", pooling)


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="")
