"""A Hugging Face folder: config.json, read with the same checks as GGUF metadata, and where its tensors lie.

Nested objects become dotted keys (``rope_parameters.rope_theta``). ``null`` and empty lists count as missing, which is
what they mean to the classes that write these files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from madang.core.errors import MalformedFile, ModelNotFound
from madang.formats.json_object import read_json_object
from madang.formats.metadata import CheckedMetadata, MetadataValue
from madang.formats.safetensors import read_safetensors
from madang.formats.tensors import TensorInfo

CONFIG_FILE: Final = "config.json"
MAX_CONFIG_BYTES: Final = 16 * 2**20
MAX_NESTING: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class ModelFolder(CheckedMetadata):
    """``path`` is the config.json that ``metadata`` comes from; ``tensors`` are those of the safetensors beside it."""

    tensors: Mapping[str, TensorInfo]

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.path.parent

    @property
    def architecture(self) -> str:
        """``model_type``, for example ``"llama"``; MalformedFile when it is missing or not a text."""
        return self.require_str("model_type")

    def section(self, name: str) -> ModelFolder:
        """What stands in the object ``name``; empty when there is none."""
        prefix = name + "."
        inner = {key.removeprefix(prefix): value for key, value in self.metadata.items() if key.startswith(prefix)}
        return replace(self, metadata=MappingProxyType(inner))

    def with_defaults(self, **values: MetadataValue) -> ModelFolder:
        """The same with ``values`` for keys that are missing."""
        return replace(self, metadata=MappingProxyType({**values, **self.metadata}))

    def with_aliases(self, **names: str) -> ModelFolder:
        """The same with other spellings: ``num_hidden_layers="n_layer"`` is the second where there is no first."""
        known = {name: self.metadata[alias] for name, alias in names.items() if alias in self.metadata}
        return self.with_defaults(**known)


def read_folder(path: Path) -> ModelFolder:
    """The folder at ``path``. Raises ModelNotFound without a config.json, MalformedFile for files that break rules."""
    config = path / CONFIG_FILE
    if not config.is_file():
        raise ModelNotFound(str(path), hint=f"A Hugging Face folder holds a {CONFIG_FILE}; there is none.")
    metadata = dict(_flat(config, read_json_object(config, MAX_CONFIG_BYTES), "", MAX_NESTING))
    return ModelFolder(config, MappingProxyType(metadata), read_safetensors(path))


def trained_tokens(path: Path) -> int | None:
    """The longest context that the config.json of a folder speaks of, whatever the family; None where it is silent."""
    config = read_json_object(path / CONFIG_FILE, MAX_CONFIG_BYTES)
    for part in (config, config.get("text_config")):
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
            value = part.get(key) if isinstance(part, dict) else None
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _flat(path: Path, value: dict[str, Any], prefix: str, levels: int) -> Iterator[tuple[str, MetadataValue]]:
    if not levels:
        raise MalformedFile(path, f"its objects are nested more than {MAX_NESTING} deep")
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(path, inner, f"{prefix}{key}.", levels - 1)
        elif isinstance(inner, list):
            if inner:
                yield prefix + key, _list_value(inner)
        elif inner is not None:
            yield prefix + key, inner


def _list_value(items: list[Any]) -> MetadataValue:
    if all(isinstance(item, str) for item in items):
        return items
    kinds = {type(item) for item in items}
    if kinds == {bool}:
        return np.array(items, np.bool_)
    fits = kinds <= {int, float} and all(abs(item) < 2**63 for item in items)
    if kinds == {int} and fits:
        return np.array(items, np.int64)
    if kinds == {float} or fits:
        return np.array(items, np.float64)
    return np.array([None] * len(items), object)  # no getter takes these
