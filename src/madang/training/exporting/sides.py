"""The two sides of a comparison: what a model reads of a conversation, and its logits, whatever computes them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from madang.core.errors import CannotConvert, UnsupportedModel
from madang.formats.families import describe_folder
from madang.formats.templates import ChatTemplate, template_for
from madang.formats.tokenizers import Tokenizer, tokenizer_from_json
from madang.native.mutable import MutableModel

Logits = npt.NDArray[np.float32]
ONNX_FILE: Final = "model.onnx"


class Side(Protocol):
    """A model that is compared.

    tokenizer   and ``template``: what its file says
    is_tied     whether its head is its embeddings; None where that cannot be told
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    is_tied: bool | None

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Logits after each token, float32 [n, words]; see core.engine.LogitSource."""

    def tokenize(self, text: str) -> Sequence[int]:
        """See core.engine.LogitSource."""

    def close(self) -> None:
        """Free the weights."""


class _Side:
    """What all have: tokenizer and template."""

    def __init__(self, tokenizer: Tokenizer, is_tied: bool | None) -> None:
        self.tokenizer = tokenizer
        self.template = template_for(tokenizer)
        self.is_tied = is_tied

    def tokenize(self, text: str) -> Sequence[int]:
        """See core.engine.LogitSource."""
        return self.tokenizer.encode(text)

    def close(self) -> None:
        """Nothing to free."""


class TorchSide(_Side):
    """A folder, with an adapter or without, as transformers and PEFT compute it, in float32."""

    def __init__(self, folder: Path, adapter: Path | None = None, settings: Path | None = None) -> None:
        """``settings`` is the folder whose tokenizer counts; None is ``folder``. Raises what reading it raises."""
        super().__init__(tokenizer_from_json(settings or folder), folder_is_tied(folder))
        self._model: Any = _adapted(torch_model(folder), adapter).eval()

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """See core.engine.LogitSource."""
        import torch

        with torch.inference_mode():
            yield self._model(torch.tensor([list(tokens)]), use_cache=False).logits[0].float().numpy()

    def greedy(self, tokens: Sequence[int], n_tokens: int) -> list[int]:
        """The likeliest continuation, until an end token."""
        import torch

        found: list[int] = []
        cache, given = None, list(tokens)
        with torch.inference_mode():
            while len(found) < n_tokens and not (found and found[-1] in self.tokenizer.end_ids):
                output = self._model(torch.tensor([given]), past_key_values=cache, use_cache=True)
                cache, given = output.past_key_values, [int(output.logits[0, -1].argmax())]
                found += given
        return found

    def close(self) -> None:
        """See Side."""
        self._model = None


def torch_model(folder: Path) -> Any:
    """A folder as transformers loads it, in float32, to be asked and not trained."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).eval()


def _adapted(model: Any, adapter: Path | None) -> Any:
    if adapter is None:
        return model
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names in transformers, for PEFT's developers
        return PeftModel.from_pretrained(model, str(adapter))


class NativeSide(_Side):
    """A GGUF file, or a folder with an adapter beside it, as the native engine computes it, in float32."""

    def __init__(
        self, path: Path, n_threads: int, *, adapter: Path | None = None, settings: Path | None = None
    ) -> None:
        """Raises what the native engine does."""
        self._model: MutableModel | None = MutableModel(path, n_threads)
        if adapter is not None:
            self._model.adapt(adapter)
        tokenizer = self._model.tokenizer if settings is None else tokenizer_from_json(settings)
        super().__init__(tokenizer, "output" not in self._model.description.tensors)

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """See core.engine.LogitSource."""
        assert self._model is not None
        return self._model.logits(tokens)

    def close(self) -> None:
        """See Side."""
        self._model = None


class OnnxSide(_Side):
    """A folder with ``model.onnx`` as onnxruntime computes it."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        """Raises EngineUnavailable, CannotConvert for a graph that onnxruntime refuses."""
        super().__init__(tokenizer_from_json(folder), None)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        try:
            self._session: Any = onnxruntime.InferenceSession(
                folder / ONNX_FILE, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common class
            raise CannotConvert(f"onnxruntime refuses the graph ({' '.join(str(error).split())[:300]})") from error

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """See core.engine.LogitSource."""
        ids = np.array([list(tokens)], np.int64)
        rows: Logits = self._session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
        yield rows

    def close(self) -> None:
        """See Side."""
        self._session = None


class MlxSide(_Side):
    """A folder as mlx-lm computes it."""

    def __init__(self, folder: Path) -> None:
        """Raises UnsupportedModel."""
        super().__init__(tokenizer_from_json(folder), None)
        from mlx_lm.utils import load_model

        from madang.engines.mlx.loading import MlxModel

        self._model = MlxModel(load_model(folder)[0])

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """See core.engine.LogitSource."""
        yield self._model.all_logits(tokens, self._model.new_cache())

    def close(self) -> None:
        """See Side."""
        self._model.close()


def folder_is_tied(folder: Path) -> bool | None:
    """Whether the head of a folder's model is its embeddings; None for families that our own engine does not know."""
    try:
        return "output" not in describe_folder(folder).tensors
    except UnsupportedModel:
        return None
