"""A causal model of transformers, a step at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from madang.core.errors import EngineError
from madang.engines.stepping import Logits
from madang.hardware import Placement


class TorchModel:
    """See stepping.StepModel; caches are the library's DynamicCache. ``placement`` says where it runs, and why."""

    def __init__(self, model: Any, placement: Placement) -> None:
        self.placement = placement
        self._model = model
        # Logits of a whole prompt are large, and only those after its last token are wanted.
        can_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if can_keep else {}

    def new_cache(self) -> Any:
        """See StepModel."""
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    def step(self, tokens: Sequence[int], cache: Any) -> Logits:
        """See StepModel."""
        logits: Logits = self._forward(tokens, cache, **self._last_only)[0, -1].float().cpu().numpy()
        return logits

    def all_logits(self, tokens: Sequence[int], cache: Any) -> Logits:
        """See StepModel."""
        logits: Logits = self._forward(tokens, cache)[0].float().cpu().numpy()
        return logits

    def shorten(self, cache: Any, n_tokens: int) -> bool:
        """See StepModel. Windows and recurrent states have forgotten what they would need."""
        from transformers.cache_utils import DynamicLayer

        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return False
        cache.crop(-n_tokens)
        return True

    def close(self) -> None:
        """See StepModel."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _forward(self, tokens: Sequence[int], cache: Any, **options: Any) -> Any:
        import torch

        with torch.inference_mode(), torch_errors():
            ids = torch.tensor([list(tokens)], device=self.placement.device.value)
            return self._model(input_ids=ids, past_key_values=cache, use_cache=True, **options).logits


@contextmanager
def torch_errors() -> Iterator[None]:
    """What a forward pass raises, as our errors."""
    import torch

    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        hint = "Lower --context, or choose a smaller model or quantization."
        raise EngineError("The device has no memory left for the next step.", hint=hint) from error
    except (RuntimeError, IndexError) as error:
        raise EngineError(f"PyTorch failed: {' '.join(str(error).split())[:300]}") from error
