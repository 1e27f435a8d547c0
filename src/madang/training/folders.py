"""Hugging Face folders that training writes: weights and settings of its own, everything else from the model before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from madang.core.errors import InvalidRequest, ModelError
from madang.core.progress import Progress, SilentProgress
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.families import describe_folder
from madang.formats.folder import CONFIG_FILE
from madang.formats.gguf_writing import TensorToWrite
from madang.formats.safetensors_writing import write_safetensors

# Of a model's folder: what goes along with other weights. Code and pickles never do.
COMPANIONS: Final = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "NOTICE",
)
_REST_BYTES: Final = 64_000_000


def require_new(target: Path) -> None:
    """Raise InvalidRequest when something is at ``target``."""
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="dst", hint="Remove it, or name another place.")


def copy_companions(source: Path, folder: Path) -> None:
    """Tokenizer, template and licence of the model at ``source``."""
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def write_folder(
    target: Path,
    source: Path,
    config: Mapping[str, Any],
    tensors: Sequence[TensorToWrite],
    *,
    progress: Progress | None = None,
    documents: Mapping[str, Any] | None = None,
) -> None:
    """Write ``target`` with these weights and settings, and the companions of ``source``; whole, or not at all.

    documents   what else is put into it, as JSON, by file name

    Raises InvalidRequest when something is at ``target``, NotEnoughDisk, ModelError when the system refuses, and what
    reading the new folder as a model raises.
    """
    require_new(target)
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    require_disk(target.parent, total_bytes + _REST_BYTES)
    progress = progress or SilentProgress()
    progress.started(total_bytes)
    try:
        with within_disk(target.parent, total_bytes + _REST_BYTES), replacing(target) as folder:
            folder.mkdir()
            copy_companions(source, folder)
            for name, document in {CONFIG_FILE: config, **(documents or {})}.items():
                folder.joinpath(name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            write_safetensors(folder, tensors, progress)
            describe_folder(folder)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror}.", hint="Choose another place.") from error
    progress.finished()
