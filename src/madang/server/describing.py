"""What a model's files say of it, for people and programs that choose one: read once, and again when they change."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from madang.core.errors import MadangError
from madang.core.units import format_count
from madang.models import ModelFiles, ModelFormat

MAX_CACHED: Final = 256
MAX_LISTED: Final = 64  # items of an array in metadata; longer ones, such as vocabularies, are not shown
MAX_TEMPLATE_BYTES: Final = 1 << 20

# llama.cpp's numbers of how a file was quantized (general.file_type; include/llama.h, enum llama_ftype).
_FILE_TYPES: Final[Mapping[int, str]] = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"},
    **{19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"},
    **{26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16"},
}


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor; the shape has its slowest dimension first."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is not known is None or empty.

    quantization    as llama.cpp names it, else the type that most bytes have
    capabilities    of "completion", "embedding", "rerank", "tools", "thinking"
    metadata        of the file itself, without what is too long to be read by people
    """

    architecture: str
    parameters: int | None = None
    quantization: str = ""
    context_tokens: int | None = None
    embedding_length: int | None = None
    license: str | None = None
    template: str | None = None
    capabilities: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[TensorFacts, ...] = ()

    @property
    def parameter_size(self) -> str:
        """Such as "135M"; empty when it is not known."""
        return "" if self.parameters is None else format_count(self.parameters)


def facts_of(files: ModelFiles) -> ModelFacts:
    """The facts; for files that cannot be read, only that they cannot."""
    try:
        return _facts(files.format, files.path, files.size_bytes, files.modified.isoformat())
    except (MadangError, OSError, ValueError):
        return ModelFacts(architecture="unknown")


@lru_cache(MAX_CACHED)
def _facts(format: ModelFormat, path: Path, size_bytes: int, modified: str) -> ModelFacts:
    """Size and time are only there to tell a changed model from the one that was read."""
    return _of_gguf(path) if format == "gguf" else _of_folder(path)


def _of_gguf(path: Path) -> ModelFacts:
    from madang.formats.gguf import read_gguf

    gguf = read_gguf(path)
    family = gguf.architecture
    template = gguf.get_str("tokenizer.chat_template", None)
    parameters = sum(tensor.n_elements for tensor in gguf.tensors.values())
    file_type = _FILE_TYPES.get(gguf.get_int("general.file_type", -1, low=-1))
    return ModelFacts(
        architecture=family,
        parameters=parameters,
        quantization=file_type or _commonest((tensor.type.name, tensor.size_bytes) for tensor in gguf.tensors.values()),
        context_tokens=gguf.get_int(f"{family}.context_length", None),
        embedding_length=gguf.get_int(f"{family}.embedding_length", None),
        license=gguf.get_str("general.license", None),
        template=template,
        capabilities=_capabilities(path, "gguf", template),
        metadata={name: _plain(value) for name, value in gguf.metadata.items() if name != "tokenizer.chat_template"},
        tensors=tuple(TensorFacts(name, t.type.name, tuple(t.shape)) for name, t in gguf.tensors.items()),
    )


def _of_folder(path: Path) -> ModelFacts:
    from madang.formats.metadata import CheckedMetadata
    from madang.formats.safetensors import read_safetensors

    config_path = path / "config.json"
    config = CheckedMetadata(config_path, json.loads(config_path.read_text(encoding="utf-8")))
    tensors = read_safetensors(path)
    template = _folder_template(path)
    return ModelFacts(
        architecture=config.get_str("model_type", "unknown"),
        parameters=sum(tensor.n_elements for tensor in tensors.values()),
        quantization=_commonest((tensor.type.name, tensor.size_bytes) for tensor in tensors.values()),
        context_tokens=config.get_int("max_position_embeddings", None),
        embedding_length=config.get_int("hidden_size", None),
        template=template,
        capabilities=_capabilities(path, "huggingface", template),
        metadata={
            name: value for name, value in config.metadata.items() if isinstance(value, bool | int | float | str)
        },
        tensors=tuple(TensorFacts(name, t.type.name, tuple(t.shape)) for name, t in tensors.items()),
    )


def _folder_template(path: Path) -> str | None:
    own = path / "chat_template.jinja"
    if own.is_file() and own.stat().st_size <= MAX_TEMPLATE_BYTES:
        return own.read_text(encoding="utf-8")
    config = path / "tokenizer_config.json"
    if not config.is_file():
        return None
    template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    return template if isinstance(template, str) else None


def _capabilities(path: Path, format: ModelFormat, template: str | None) -> tuple[str, ...]:
    from madang.formats.dialects import dialect_for
    from madang.formats.families import describe_model

    try:
        description = describe_model(path, format)
        if description.ranks_pairs:
            return ("rerank",)
        if description.embedding is not None:
            return ("embedding",)
    except MadangError:
        pass  # another engine may run what ours cannot
    dialect = dialect_for(template or "")
    able = {"tools": dialect.takes_tools and dialect.calls is not None, "thinking": dialect.thinking is not None}
    return ("completion", *(name for name, can in able.items() if can))


def _commonest(types: Iterable[tuple[str, int]]) -> str:
    sizes: dict[str, int] = {}
    for name, size_bytes in types:
        sizes[name] = sizes.get(name, 0) + size_bytes
    return max(sizes, key=lambda name: sizes[name]) if sizes else ""


def _plain(value: Any) -> Any:
    """As JSON has it; None for what is too long, and for numbers that JSON does not know."""
    if isinstance(value, list):
        return value if len(value) <= MAX_LISTED else None
    if hasattr(value, "tolist"):
        return [_plain(item) for item in value.tolist()] if value.size <= MAX_LISTED else None
    return None if isinstance(value, float) and not math.isfinite(value) else value
