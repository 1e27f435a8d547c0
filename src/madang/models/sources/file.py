"""Files that are on this machine already: used where they are, never copied."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from madang.core.errors import MalformedFile
from madang.core.sampling import SamplingParams
from madang.models.files import ModelFiles, ModelFormat, read_generation_config
from madang.models.references import FileReference

GGUF_MAGIC = b"GGUF"


def open_in_place(reference: FileReference) -> ModelFiles:
    """A GGUF file, a folder holding exactly one, or a folder with config.json and safetensors.

    Raises MalformedFile when it is none of them, OSError when it cannot be read.
    """
    path = reference.path
    if not path.is_dir():
        return _describe(reference, "gguf", _checked_gguf(path), [path])
    weights = sorted(path.glob("*.safetensors"))
    if weights and (path / "config.json").is_file():
        return _describe(reference, "huggingface", path, weights)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return _describe(reference, "gguf", _checked_gguf(ggufs[0]), ggufs)
    if ggufs:
        names = ", ".join(gguf.name for gguf in ggufs[:8])
        raise MalformedFile(path, f"it holds {len(ggufs)} GGUF files", hint=f"Name one of them: {names}.")
    raise MalformedFile(path, "the folder holds neither a GGUF file nor config.json with safetensors")


def _checked_gguf(path: Path) -> Path:
    with path.open("rb") as file:
        if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise MalformedFile(path, "it does not begin like a GGUF file")
    return path


def _describe(reference: FileReference, format: ModelFormat, path: Path, weights: list[Path]) -> ModelFiles:
    generation_config = path / "generation_config.json"
    known = format == "huggingface" and generation_config.is_file()
    return ModelFiles(
        name=str(reference),
        format=format,
        path=path,
        size_bytes=sum(file.stat().st_size for file in weights),
        source=str(reference),
        modified=datetime.fromtimestamp(max(file.stat().st_mtime for file in weights), tz=UTC),
        sampling_defaults=read_generation_config(generation_config) if known else SamplingParams(),
    )
