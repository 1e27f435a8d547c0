"""Ollama's parameters (``options`` of its API, PARAMETER of its Modelfiles) in our terms, each in exactly one list.

Reference: ollama/ollama, docs/modelfile.mdx and api/types.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.sampling import DRAWING, SamplingParams

SAMPLING: Final[tuple[str, ...]] = (*DRAWING, "seed")
LIMITS: Final[tuple[str, ...]] = ("num_ctx", "num_predict", "stop")

_PLANNED = "is set when a model is loaded, by its plan"
_RETIRED = "is a sampler that madang does not have"
# Why it changes nothing; a value that means "off" is not even worth a warning.
IGNORED: Final[Mapping[str, str]] = {
    "num_keep": "has no meaning where nothing is dropped from a context while it is generated",
    "num_batch": _PLANNED,
    "num_gpu": _PLANNED,
    "main_gpu": _PLANNED,
    "num_thread": _PLANNED,
    "num_gqa": _PLANNED,
    "numa": _PLANNED,
    "low_vram": _PLANNED,
    "f16_kv": _PLANNED,
    "use_mmap": _PLANNED,
    "use_mlock": _PLANNED,
    "vocab_only": _PLANNED,
    "logits_all": _PLANNED,
    "embedding_only": _PLANNED,
    "rope_frequency_base": _PLANNED,
    "rope_frequency_scale": _PLANNED,
    "draft_num_predict": _PLANNED,
    "typical_p": _RETIRED,
    "tfs_z": _RETIRED,
    "mirostat": _RETIRED,
    "mirostat_tau": _RETIRED,
    "mirostat_eta": _RETIRED,
    "penalize_newline": "is a penalty that madang does not have",
}
_OFF: Final[Mapping[str, object]] = {"typical_p": 1, "tfs_z": 1, "mirostat": 0, "penalize_newline": True}
KNOWN: Final[tuple[str, ...]] = (*SAMPLING, *LIMITS, *IGNORED)
MOST_TOKENS: Final = 2**31 - 1  # of num_ctx and num_predict
_WHOLE: Final[tuple[str, ...]] = ("top_k", "repeat_last_n", "seed")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What they say; None and empty are not set. ``warnings`` has a sentence for each that changes nothing."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_tokens: int | None = None
    warnings: tuple[str, ...] = ()


def read_parameters(options: Mapping[str, Any]) -> Parameters:
    """From untyped input; null is not set. Raises InvalidRequest, UnknownOption with the closest name."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in KNOWN:
            raise UnknownOption("option", name, KNOWN)
    sampling = {
        name: _whole(name, given[name]) if name in _WHOLE else given[name] for name in SAMPLING if name in given
    }
    if sampling.get("seed", 0) < 0:  # as in llama.cpp: draw a fresh one
        del sampling["seed"]
    num_predict, num_ctx = (_whole(name, given[name]) if name in given else 0 for name in ("num_predict", "num_ctx"))
    for name, value, least in (("num_ctx", num_ctx, 0), ("num_predict", num_predict, -MOST_TOKENS)):
        if not least <= value <= MOST_TOKENS:
            raise InvalidRequest(f"{name} is {value}, but must be from {max(least, 1)} to {MOST_TOKENS}.", param=name)
    return Parameters(
        sampling=SamplingParams.from_mapping(sampling),
        stop=_stop(given.get("stop", ())),
        max_tokens=num_predict if num_predict > 0 else None,  # 0 and below mean "until it ends" to Ollama
        context_tokens=num_ctx or None,
        warnings=tuple(
            f"The option '{name}' was ignored: it {IGNORED[name]}."
            for name, value in given.items()
            if name in IGNORED and _OFF.get(name) != value
        ),
    )


def written(sampling: SamplingParams, stop: tuple[str, ...], others: Mapping[str, int | None]) -> dict[str, list[Any]]:
    """Back in Ollama's names, each with its values; what is not set is left out."""
    values = {name: getattr(sampling, name) for name in SAMPLING} | dict(others)
    lists: dict[str, list[Any]] = {name: [value] for name, value in values.items() if value is not None}
    return lists | ({"stop": list(stop)} if stop else {})


def _whole(name: str, value: object) -> int:
    """Some clients send whole numbers as 40.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"{name} is {value!r}, but must be a whole number.", param=name)
    return value


def _stop(value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("stop is a list of texts.", param="stop")
    return tuple(texts)
