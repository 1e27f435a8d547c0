"""A model on this machine, as engines receive it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from madang.core.errors import InvalidRequest, MalformedFile
from madang.core.sampling import SamplingParams

ModelFormat = Literal["gguf", "huggingface"]
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies and what is known of it without opening it.

    name                the canonical reference: smollm2:135m, hf:org/repo, file:/path
    path                "gguf": the file. "huggingface": a folder with config.json, safetensors and tokenizer files
    sampling_defaults   what the publisher recommends; unset fields stay None
    source              where it came from, exact: package and version, repository and commit, or the path
    """

    name: str
    format: ModelFormat
    path: Path
    size_bytes: int
    source: str
    modified: datetime
    sampling_defaults: SamplingParams = field(default_factory=SamplingParams)


_GENERATION_CONFIG = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def read_generation_config(path: Path) -> SamplingParams:
    """Sampling defaults from a Hugging Face ``generation_config.json``; values out of range count as unset.

    Raises MalformedFile when it is not a JSON object of at most 1 MiB.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise MalformedFile(path, f"longer than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedFile(path, "not JSON") from error
    if not isinstance(config, dict):
        raise MalformedFile(path, "not a JSON object")
    known: dict[str, float] = {}
    for theirs, ours in _GENERATION_CONFIG.items():
        value = config.get(theirs)
        if isinstance(value, int | float) and not isinstance(value, bool) and _in_range(ours, value):
            known[ours] = value
    return SamplingParams.from_mapping(known)


def _in_range(name: str, value: float) -> bool:
    try:
        SamplingParams.from_mapping({name: value})
    except InvalidRequest:
        return False
    return True
