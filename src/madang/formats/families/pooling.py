"""How an embedding model makes one vector of a text, as its files say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from madang.core.errors import MalformedFile
from madang.formats.families.sources import unsupported
from madang.formats.folder import MAX_CONFIG_BYTES, ModelFolder, read_folder
from madang.formats.gguf import GGUFFile
from madang.formats.json_object import read_json, read_json_object
from madang.formats.spec import EmbeddingSpec, Pooling

# llama.cpp's LLAMA_POOLING_TYPE_*; 0 is none.
GGUF_POOLINGS: Final[dict[Pooling, int]] = {"mean": 1, "cls": 2, "last": 3}
GGUF_RANKING: Final = 4  # pairs of texts
_POOLING_OF: Final = {number: pooling for pooling, number in GGUF_POOLINGS.items()}
# sentence-transformers' 1_Pooling/config.json
_FLAGS: Final[dict[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_MODES: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}


def gguf_embedding(file: GGUFFile, default: EmbeddingSpec | None = None) -> EmbeddingSpec | None:
    """What ``<architecture>.pooling_type`` says; ``default`` where it is silent."""
    kind = file.get_int(f"{file.architecture}.pooling_type", 0)
    if not kind:
        return default
    if kind not in _POOLING_OF:
        raise unsupported(file, f"the pooling type {kind}")
    return EmbeddingSpec(_POOLING_OF[kind])


def folder_embedding(folder: ModelFolder, default: EmbeddingSpec | None = None) -> EmbeddingSpec | None:
    """What sentence-transformers' ``modules.json`` says; ``default`` where there is none."""
    file = folder.folder / "modules.json"
    if not file.is_file():
        return default
    modules = read_json(file, MAX_CONFIG_BYTES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise MalformedFile(file, "it holds no list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    for kind in kinds:
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise unsupported(folder, f"the module '{kind[:40]}'")
    if "Pooling" not in kinds:
        return default
    pooling = _pooling(folder, modules[kinds.index("Pooling")], file)
    return EmbeddingSpec(pooling, normalized="Normalize" in kinds)


def stated_embedding(path: Path) -> EmbeddingSpec | None:
    """What the files of a folder say, whatever its family; None for a model that writes. Errors as describe_folder."""
    return folder_embedding(read_folder(path)) if (path / "modules.json").is_file() else None


def _pooling(folder: ModelFolder, module: dict[str, Any], file: Path) -> Pooling:
    path = module.get("path")
    if not isinstance(path, str) or not path.isprintable() or set(path) & set("/\\:") or path.startswith("."):
        raise MalformedFile(file, "the path of its pooling is no plain name")
    settings = read_json_object(folder.folder / path / "config.json", MAX_CONFIG_BYTES)
    mode = settings.get("pooling_mode")
    if isinstance(mode, str) and mode in _MODES:
        return _MODES[mode]
    on = [key for key, value in settings.items() if key.startswith("pooling_mode") and value]
    if len(on) != 1 or on[0] not in _FLAGS:
        raise unsupported(folder, f"the pooling '{' + '.join(on)[:80] or 'none'}'")
    return _FLAGS[on[0]]
