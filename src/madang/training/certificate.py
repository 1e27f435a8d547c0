"""What became of a model that was pruned, distilled or merged: loss, bytes and speed, beside what it was.

All models read the same chunks of a text that no choice was made on, in the native engine with activations in full
precision. Intervals draw chunks again (measures.py); KL is from the first model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang import __version__
from madang.core.engine import Benchmarkable
from madang.core.errors import InvalidRequest
from madang.core.settings import load_settings
from madang.evaluation import EvaluationResult, TaskResult
from madang.evaluation.kept import key_of
from madang.evaluation.measures import difference, estimate
from madang.evaluation.running import now
from madang.evaluation.tasks.task import mean_figure
from madang.formats.safetensors import read_safetensors
from madang.native import MutableModel
from madang.quantization.divergence import Divergence, compare, fold, rows_of
from madang.runtime import open_model

CERTIFICATE_FILE: Final = "certificate.json"
_PROMPT_TOKENS: Final = 256
_DECODE_TOKENS: Final = 32


def certify(
    models: Mapping[str, Path], chunks: Sequence[Sequence[int]], *, n_threads: int, with_speed: bool = True
) -> dict[str, Any]:
    """Figures of each folder, by name, and how far each lies from the first; for JSON.

    with_speed   whether prompt and decode are timed, too: seconds per model

    Raises InvalidRequest without models, what loading raises, and EngineError where the vocabularies differ.
    """
    return certificate_of(models, measure_folders(models, chunks, n_threads), n_threads, with_speed=with_speed)


def measure_folders(
    models: Mapping[str, Path], chunks: Sequence[Sequence[int]], n_threads: int
) -> dict[str, Divergence]:
    """Each against the first. Raises as :func:`certify`."""
    if not models:
        raise InvalidRequest("There is no model to certify.")
    loaded = {name: MutableModel(path, n_threads) for name, path in models.items()}
    found: dict[str, list[Divergence]] = {name: [] for name in models}
    for chunk in chunks:
        rows = None
        for name, model in loaded.items():
            own = rows_of(model, chunk)
            rows = own if rows is None else rows
            found[name].append(compare(rows, own, chunk))
    return {name: fold(parts) for name, parts in found.items()}


def certificate_of(
    models: Mapping[str, Path], found: Mapping[str, Divergence], n_threads: int, *, with_speed: bool = True
) -> dict[str, Any]:
    """The document of what was measured."""
    first = next(iter(found))
    ends = found[first].ends
    document: dict[str, Any] = {"first": first, "chunks": len(ends), "tokens": ends[-1], "models": {}}
    for name, path in models.items():
        figures = _figures(found[name], found[first]) | _size(path)
        document["models"][name] = figures | (_speed(path, n_threads) if with_speed else {})
    return document


def as_evaluation(label: str, found: Divergence, chunks: Sequence[Sequence[int]]) -> EvaluationResult:
    """The same as the result of a task, which ``madang runs`` shows and compares with others on these chunks."""
    nats, counts = _nats(found), np.diff((0, *found.ends)).tolist()
    task = TaskResult(
        name="report",
        version="1",
        metric="perplexity",
        higher_is_better=False,
        digest=key_of([list(map(int, chunk)) for chunk in chunks]),
        example="",
        figures={"perplexity": mean_figure(nats, counts, math.exp)},
        items=[
            {"id": str(number), "score": one, "weight": count, "said": ""}
            for number, (one, count) in enumerate(zip(nats, counts, strict=True))
        ],
        tokens=found.ends[-1],
    )
    return EvaluationResult({"label": label}, (task,), now(), __version__)


def recovered(before: float, lost: float, healed: float) -> dict[str, float | None]:
    """Which share of the perplexity that ``lost`` has more than ``before`` came back in ``healed``.

    In perplexity and in its logarithm, which differ much where much was lost; None where nothing was.
    """
    return {
        "of_perplexity": _share(before, lost, healed),
        "of_log_perplexity": _share(*(math.log(value) for value in (before, lost, healed))),
    }


def _share(before: float, lost: float, healed: float) -> float | None:
    return (lost - healed) / (lost - before) if lost > before else None


def _nats(found: Divergence) -> list[float]:
    return [-float(part.sum()) for part in np.split(found.logprob, found.ends[:-1])]


def _figures(found: Divergence, first: Divergence) -> dict[str, Any]:
    counts = np.diff((0, *found.ends)).tolist()
    apart = difference(_nats(found), _nats(first), counts)
    return {
        "perplexity": estimate(_nats(found), counts, math.exp),
        "log_perplexity_above_first": None
        if apart is None
        else dict(zip(("value", "low", "high"), apart, strict=True)),
        "mean_kl": found.mean,
        "top_1_agreement": found.agreement,
    }


def _size(path: Path) -> dict[str, int]:
    tensors = list(read_safetensors(path).values())
    return {
        "parameters": sum(tensor.n_elements for tensor in tensors),
        "size_bytes": sum(tensor.size_bytes for tensor in tensors),
    }


def _speed(path: Path, n_threads: int) -> dict[str, Any]:
    engine = open_model(str(path.absolute()), load_settings({"threads": n_threads}, {}))
    try:
        if not isinstance(engine, Benchmarkable):
            return {}
        prompt_s, decode_s = engine.benchmark(_PROMPT_TOKENS, _DECODE_TOKENS)
    finally:
        engine.close()
    return {"prompt_tokens_s": _PROMPT_TOKENS / prompt_s, "decode_tokens_s": _DECODE_TOKENS / decode_s}
