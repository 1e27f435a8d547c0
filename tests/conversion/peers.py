"""What others make of a converted model: transformers of the folder, llama.cpp of the file."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.references import log_softmax, torch, transformers

Row = npt.NDArray[np.float64]


def of_transformers(folder: Path, *, encoder: bool) -> Any:
    """The model as a stranger would load it."""
    loader = transformers.AutoModel if encoder else transformers.AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def row_of(model: Any, tokens: Sequence[int], *, encoder: bool) -> Row:
    """Log-probabilities after the last token, or the text's normalized mean vector."""
    with torch.inference_mode():
        output = model(torch.tensor([list(tokens)]))
    if not encoder:
        return log_softmax(output.logits[0, -1].numpy())
    mean = output.last_hidden_state[0].numpy().astype(np.float64).mean(0)
    vector: Row = mean / np.linalg.norm(mean)
    return vector


class LlamaCpp:
    """llama.cpp's server in this process, in float32 throughout."""

    def __init__(self, path: Path, n_words: int, *, encoder: bool, ranks: bool = False) -> None:
        xllamacpp = pytest.importorskip("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
        params.cpuparams.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.embedding = encoder
        if ranks:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
        self._server = xllamacpp.Server(params)
        self._n_words = n_words
        self._encoder = encoder

    def row(self, tokens: Sequence[int]) -> Row | None:
        """As :func:`row_of`; None where the likeliest token ends the answer, of which it tells nothing."""
        if self._encoder:
            vector = np.array(self._post("/embedding", {"content": list(tokens)})[0]["embedding"]).reshape(-1)
            normalized: Row = vector / np.linalg.norm(vector)
            return normalized
        request = {"prompt": list(tokens), "n_predict": 1, "n_probs": self._n_words, "temperature": 0}
        answer = self._post("/completion", {**request, "cache_prompt": False, "samplers": ["top_k"], "top_k": 1})
        if "completion_probabilities" not in answer:
            return None
        row = np.full(self._n_words, np.nan)
        for word in answer["completion_probabilities"][0]["top_logprobs"]:
            row[word["id"]] = word["logprob"]
        return row

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, with what the model wants around it."""
        found: list[int] = self._post("/tokenize", {"content": text, "add_special": True})["tokens"]
        return found

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        """A logit for each document."""
        found = self._post("/rerank", {"query": query, "documents": list(documents)})["results"]
        return [one["relevance_score"] for one in sorted(found, key=lambda one: int(one["index"]))]

    def _post(self, route: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self._server.listening_address + route, json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
