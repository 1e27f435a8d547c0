"""The store of Ollama: manifests of layers, and the layers by their digests.

manifests/<registry>/<namespace>/<name>/<tag>     as its registry serves it
blobs/sha256-<64 hex digits>
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from madang.core.errors import ChecksumMismatch, InvalidReference, SourceError
from madang.models.digests import blob_name
from madang.models.fetching import check_sha256
from madang.models.neighbours.folder import name_of
from madang.models.neighbours.found import FoundModel
from madang.models.references import NameReference, OllamaReference, StoredReference, read_reference
from madang.models.sources.ollama import MAX_TEXT_BYTES, Layer, assemble, read_layers

_REGISTRY = "registry.ollama.ai"


@dataclass(frozen=True, slots=True)
class OllamaStore:
    """``folder`` is what OLLAMA_MODELS means."""

    folder: Path
    holder: str = "Ollama"

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return (self.folder / "manifests").is_dir()

    def models(self) -> Iterable[FoundModel]:
        """Those with weights that madang can use, with their templates, prompts and parameters."""
        with suppress(OSError):
            for path in sorted((self.folder / "manifests").glob("*/*/*/*")):
                with suppress(OSError, ValueError, TypeError, KeyError, SourceError, ChecksumMismatch):
                    yield self._model(path)

    def look_up(self, name: str, size_bytes: int, sha256: str) -> Iterable[Path]:
        """Blobs are named after their content."""
        return (self._blob(sha256),)

    def _model(self, path: Path) -> FoundModel:
        reference = _reference(path)
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ValueError("longer than a manifest may be")
        layers = read_layers(str(reference), json.loads(path.read_text(encoding="utf-8")))
        weights, preset, sampling = assemble(str(reference), layers, self._text)
        blob = self._blob(weights.sha256)
        if blob.stat().st_size != weights.size_bytes:
            raise ValueError("the weights are not complete")
        source = f"ollama:{path.parent.name}:{path.name}@sha256:{weights.sha256}"
        return FoundModel(reference, self.holder, "gguf", blob, (("model.gguf", blob),), source, sampling, preset)

    def _text(self, layer: Layer) -> str:
        content = self._blob(layer.sha256).read_bytes()
        check_sha256(layer.kind, layer.sha256, hashlib.sha256(content).hexdigest())
        return content.decode("utf-8", "replace")

    def _blob(self, sha256: str) -> Path:
        return self.folder / "blobs" / blob_name(f"sha256:{sha256}")


def _reference(path: Path) -> StoredReference:
    """As madang would pull it; what Ollama got elsewhere has only its name."""
    registry, namespace, name, tag = path.parts[-4:]
    with suppress(InvalidReference):
        if registry == _REGISTRY:
            reference = read_reference(f"ollama:{namespace}/{name}:{tag}", {})
            if isinstance(reference, OllamaReference):
                return reference
        named = read_reference(f"{name}:{tag}".lower(), {})
        if isinstance(named, NameReference):
            return named
    return name_of(f"{name}-{tag}")
