"""From a folder to an engine that computes with MLX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from madang.core.engine import EngineInfo
from madang.core.errors import EngineError, UnsupportedModel
from madang.engines.library_errors import loading_errors, said_by
from madang.engines.stepping import Logits, SteppingEngine
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.formats.tokenizers import tokenizer_from_json
from madang.hardware import Plan
from madang.models import ModelFiles

NAME: Final = "mlx"


def load(files: ModelFiles, plan: Plan) -> SteppingEngine:
    """Load a model, in the dtype of its files.

    Raises UnsupportedModel for what mlx-lm has no class for, MalformedFile, NotEnoughMemory.
    """
    started = time.perf_counter()
    config = read_json_object(files.path / CONFIG_FILE, MAX_CONFIG_BYTES)
    if "model_file" in config:
        raise UnsupportedModel(f"{files.name}: it brings its own program", engine=NAME, hint="Such models are not run.")
    tokenizer = tokenizer_from_json(files.path)
    with loading_errors(files, NAME):
        from mlx_lm.utils import load_model

        model, _ = load_model(files.path)
    info = EngineInfo(
        engine=NAME,
        model=files.name,
        context_tokens=plan.context_tokens.value,
        load_s=time.perf_counter() - started,
    )
    return SteppingEngine(info, MlxModel(model), tokenizer, files.sampling_defaults)


class MlxModel:
    """See stepping.StepModel; caches are mlx-lm's lists, one entry for each layer."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def new_cache(self) -> Any:
        """See StepModel."""
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self._model)

    def step(self, tokens: Sequence[int], cache: Any) -> Logits:
        """See StepModel."""
        return self._computed(self._forward(tokens, cache)[0, -1])

    def all_logits(self, tokens: Sequence[int], cache: Any) -> Logits:
        """See StepModel."""
        return self._computed(self._forward(tokens, cache)[0])

    def shorten(self, cache: Any, n_tokens: int) -> bool:
        """See StepModel."""
        from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

        if not can_trim_prompt_cache(cache):
            return False
        trim_prompt_cache(cache, n_tokens)
        return True

    def close(self) -> None:
        """See StepModel."""
        import mlx.core as mx

        self._model = None
        mx.clear_cache()

    def _forward(self, tokens: Sequence[int], cache: Any) -> Any:
        import mlx.core as mx

        with _errors():
            return self._model(mx.array([list(tokens)]), cache=cache)

    @staticmethod
    def _computed(logits: Any) -> Logits:
        """MLX computes when somebody looks."""
        import mlx.core as mx

        with _errors():
            return np.array(logits.astype(mx.float32))


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"MLX failed: {said_by(error)}") from error
