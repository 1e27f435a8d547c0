"""``/v1/embeddings``: vectors of texts."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from madang.core.engine import Embedder
from madang.core.errors import InvalidRequest
from madang.runtime.abilities import as_embedder
from madang.server.bridge import in_thread, leased, placed
from madang.server.names import leasable
from madang.server.openai.chat import IGNORED_EVERYWHERE
from madang.server.state import ServerState
from madang.server.wire import WireRequest

MAX_TEXTS = 2048  # of one request, as at OpenAI
TOGETHER = 64  # texts between two looks at whether the client is still there


class EmbeddingRequest(WireRequest):
    """The body."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    IGNORED: ClassVar[Mapping[str, str]] = IGNORED_EVERYWHERE

    @property
    def texts(self) -> list[str]:
        """Raises InvalidRequest when there are none, too many, or token ids."""
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in given if isinstance(text, str)]
        if len(texts) < len(given):
            raise InvalidRequest(
                "input has token ids, but those of another tokenizer mean nothing to this model.",
                param="input",
                hint="Send texts; with LangChain, set check_embedding_ctx_length=False.",
            )
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidRequest(f"input has {len(texts)} texts, but must have from 1 to {MAX_TEXTS}.", param="input")
        return texts


async def embed(state: ServerState, body: EmbeddingRequest) -> dict[str, Any]:
    """The answer. Raises InvalidRequest, ContextLengthExceeded, and what loading raises."""
    warnings, texts = body.ignored(), body.texts
    vectors, prompt_tokens = await embedded(state, body.model, texts)
    if body.dimensions is not None:
        vectors, shortened = _shortened(vectors, body.dimensions)
        warnings += shortened
    write = _base64 if body.encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": write(vector)} for i, vector in enumerate(vectors)],
        "model": body.model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        **({"madang": {"warnings": warnings}} if warnings else {}),
    }


async def embedded(state: ServerState, model: str, texts: Sequence[str]) -> tuple[list[Sequence[float]], int]:
    """Vectors in the order of the texts, and the tokens that were read. Raises what loading and embedding raise."""
    async with leased(state.pool, leasable(model, state.store)) as loaded:
        return await embedded_by(as_embedder(loaded), texts)


async def embedded_by(embedder: Embedder, texts: Sequence[str]) -> tuple[list[Sequence[float]], int]:
    """The same with a model that is leased."""
    vectors: list[Sequence[float]] = []
    prompt_tokens = 0
    for begin in range(0, len(texts), TOGETHER):
        async with placed(embedder):
            some = await in_thread(partial(embedder.embed, texts[begin : begin + TOGETHER]))
        vectors += some.vectors
        prompt_tokens += some.prompt_tokens
    return vectors, prompt_tokens


def _shortened(vectors: Sequence[Sequence[float]], n: int) -> tuple[list[Sequence[float]], list[str]]:
    """The first n numbers of each, of length 1 again, and what is to be said of that. Raises InvalidRequest."""
    most = len(vectors[0])
    if not 1 <= n <= most:
        raise InvalidRequest(f"dimensions is {n}, but this model has from 1 to {most}.", param="dimensions")
    if n == most:
        return list(vectors), []
    warning = f"dimensions cut vectors from {most} to {n} numbers, which only models trained for it stand."
    return [_unit(vector[:n]) for vector in vectors], [warning]


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector)
    return [value / length for value in vector] if length > 0 else list(vector)


def _base64(vector: Sequence[float]) -> str:
    import numpy as np

    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")
