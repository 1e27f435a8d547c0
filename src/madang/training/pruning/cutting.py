"""A Hugging Face folder with less in it: fewer layers, FFN columns and heads.

Weights are never decoded: rows and columns of their bytes are taken, so what stays is bit for bit what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.core.progress import Progress
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES, ModelFolder, read_folder
from madang.formats.gguf_writing import TensorToWrite, copied_tensor
from madang.formats.json_object import read_json_object
from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorInfo
from madang.training.folders import write_folder

# Families whose folders have these names and settings, and where every layer is alike.
FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3")
_LAYER: Final = re.compile(r"(model\.layers\.)(\d+)(\..+)")

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept, by its numbers in the model that is cut, each ascending; None keeps all.

    layers        numbers of layers
    ffn_columns   of every layer of the model, its columns of the FFN; as many in each
    heads         of every layer of the model, its heads of the query; key-value heads without any of theirs leave too
    """

    layers: Numbers | None = None
    ffn_columns: tuple[Numbers, ...] | None = None
    heads: tuple[Numbers, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Shape:
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int

    @classmethod
    def of(cls, folder: ModelFolder) -> _Shape:
        n_heads = folder.require_int("num_attention_heads", low=1)
        usual_dim = folder.require_int("hidden_size", low=1) // n_heads
        return cls(
            folder.require_int("num_hidden_layers", low=1),
            n_heads,
            folder.get_int("num_key_value_heads", n_heads, low=1),
            folder.get_int("head_dim", usual_dim, low=1),
            folder.require_int("intermediate_size", low=1),
        )


def write_cut(source: Path, target: Path, cut: Cut, *, progress: Progress | None = None) -> int:
    """Write what ``cut`` keeps of the folder ``source`` as the folder ``target``; returns the bytes of its weights.

    Raises UnsupportedModel for another family, InvalidRequest for numbers that do not fit or a target that exists,
    NotEnoughDisk, and what reading raises; nothing is at ``target`` then.
    """
    folder = read_folder(source)
    if folder.architecture not in FAMILIES:
        raise UnsupportedModel(
            f"the pruning of '{folder.architecture}'", engine="pruning", hint=f"It knows {', '.join(FAMILIES)}."
        )
    if folder.get_bool("use_sliding_window", False):
        raise UnsupportedModel("layers with windows of their own in pruning", engine="pruning")
    shape = _Shape.of(folder)
    layers = tuple(range(shape.n_layers)) if cut.layers is None else cut.layers
    _check(cut, layers, shape)
    places = {old: new for new, old in enumerate(layers)}
    tensors = [
        written for tensor in folder.tensors.values() if (written := _kept(tensor, places, cut, shape)) is not None
    ]
    config = _config(read_json_object(source / CONFIG_FILE, MAX_CONFIG_BYTES), cut, layers, shape)
    write_folder(target, source, config, tensors, progress=progress)
    return sum(tensor.size_bytes for tensor in tensors)


def _check(cut: Cut, layers: Numbers, shape: _Shape) -> None:
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < shape.n_layers:
        raise InvalidRequest(f"The layers to keep must be ascending numbers from 0 to {shape.n_layers - 1}.")
    for what, kept, n in (("FFN columns", cut.ffn_columns, shape.n_ff), ("heads", cut.heads, shape.n_heads)):
        if kept is None:
            continue
        fits = all(row and list(row) == sorted(set(row)) and 0 <= row[0] <= row[-1] < n for row in kept)
        if len(kept) != shape.n_layers or len({len(row) for row in kept}) != 1 or not fits:
            raise InvalidRequest(f"The {what} to keep must be as many in each layer, ascending from 0 to {n - 1}.")
    if cut.heads is not None and len({_groups(row, shape) for row in cut.heads}) != 1:
        raise InvalidRequest("As many heads must share a key-value head in each layer, wherever one is kept.")


def _groups(heads: Numbers, shape: _Shape) -> tuple[int, int]:
    """How many key-value heads are left, and how many heads share each; all must share alike."""
    shared = shape.n_heads // shape.n_kv_heads
    counts = np.bincount([head // shared for head in heads], minlength=shape.n_kv_heads)
    sizes = set(counts[counts > 0].tolist())
    if len(sizes) != 1:
        raise InvalidRequest("As many heads must share a key-value head, wherever one is kept.")
    return int((counts > 0).sum()), sizes.pop()


def _config(config: dict[str, Any], cut: Cut, layers: Numbers, shape: _Shape) -> dict[str, Any]:
    """The settings of what is left; a list with an entry for each layer keeps those of the layers that stay."""
    written = {
        key: [value[number] for number in layers] if isinstance(value, list) and len(value) == shape.n_layers else value
        for key, value in config.items()
    }
    written["num_hidden_layers"] = len(layers)
    if "max_window_layers" in written:
        written["max_window_layers"] = len(layers)
    if cut.ffn_columns is not None:
        written["intermediate_size"] = len(cut.ffn_columns[0])
    if cut.heads is not None:
        n_kv_heads, shared = _groups(cut.heads[0], shape)
        # Without head_dim, a reader would divide the hidden size by the number of heads.
        sizes = {"num_attention_heads": n_kv_heads * shared, "num_key_value_heads": n_kv_heads}
        written |= {**sizes, "head_dim": shape.head_dim}
    return written


def _kept(tensor: TensorInfo, places: Mapping[int, int], cut: Cut, shape: _Shape) -> TensorToWrite | None:
    """A tensor of the folder to be; None where its layer leaves."""
    match = _LAYER.fullmatch(tensor.name)
    if match is None:
        return copied_tensor(tensor)
    layer = int(match[2])
    if layer not in places:
        return None
    name = f"{match[1]}{places[layer]}{match[3]}"
    rows, columns = _selection(match[3], layer, cut, shape)
    if rows is None and columns is None:
        return copied_tensor(tensor, name)
    kept_shape = list(tensor.shape)
    if rows is not None:
        kept_shape[0] = len(rows)
    if columns is not None:
        kept_shape[1] = len(columns)
    return TensorToWrite(name, tensor.type, tuple(kept_shape), lambda: _taken(tensor, rows, columns))


Positions = npt.NDArray[np.int64]


def _selection(module: str, layer: int, cut: Cut, shape: _Shape) -> tuple[Positions | None, Positions | None]:
    """Rows and columns of a layer's matrix or bias that stay; None for all of them."""
    part = module.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    if cut.ffn_columns is not None:
        kept = np.array(cut.ffn_columns[layer])
        if part in ("gate_proj", "up_proj"):
            return kept, None
        if part == "down_proj":
            return None, None if module.endswith(".bias") else kept
    if cut.heads is not None:
        heads = cut.heads[layer]
        shared = shape.n_heads // shape.n_kv_heads
        if part == "q_proj":
            return _rows_of(heads, shape.head_dim), None
        if part in ("k_proj", "v_proj"):
            return _rows_of(tuple(sorted({head // shared for head in heads})), shape.head_dim), None
        if part == "o_proj":
            return None, None if module.endswith(".bias") else _rows_of(heads, shape.head_dim)
    return None, None


def _rows_of(heads: Numbers, head_dim: int) -> Positions:
    return (np.array(heads)[:, None] * head_dim + np.arange(head_dim)).reshape(-1)


def _taken(tensor: TensorInfo, rows: Positions | None, columns: Positions | None) -> npt.NDArray[np.uint8]:
    """The bytes of some rows or columns; of what the values mean nothing is known or needed."""
    begin, end = tensor.file_range
    with OpenFile(tensor.path) as file:
        values = file.read(begin, end - begin).reshape(*tensor.shape, -1)
    if rows is not None:
        values = values[rows]
    if columns is not None:
        values = values[:, columns]
    return np.ascontiguousarray(values).reshape(-1)


def cut_document(cut: Cut) -> dict[str, Any]:
    """What is kept, for JSON."""
    return json.loads(json.dumps({"layers": cut.layers, "ffn_columns": cut.ffn_columns, "heads": cut.heads}))  # type: ignore[no-any-return]
