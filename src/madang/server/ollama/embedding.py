"""POST /api/embed, and its older form /api/embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.core.engine import Embedder, Embeddings
from madang.core.errors import ContextLengthExceeded, InvalidRequest
from madang.models.parameters import read_parameters
from madang.runtime.abilities import as_embedder
from madang.server.bridge import in_thread, leased, placed, while_connected
from madang.server.names import find_reference
from madang.server.ollama.body import Body, Fields
from madang.server.ollama.durations import nanoseconds, read_keep_alive
from madang.server.ollama.responding import body_of, state_of
from madang.server.scopes import check_manager, granted_keep_alive
from madang.server.state import ServerState

router = APIRouter(tags=["ollama"])

MAX_TEXTS: Final = 2048
CUT_SHARE: Final = 0.97  # of the length that should fit; tokens are not spread evenly
MAX_CUTS: Final = 24
_NO_EFFECT: Final = "makes no difference to a vector"
EMBED: Final = Fields(("model", "input", "truncate", "dimensions", "keep_alive", "options"))
EMBEDDINGS: Final = Fields(("model", "prompt", "keep_alive", "options"))


@dataclass(frozen=True, slots=True)
class _Asked:
    """``truncate`` cuts what is too long, and says so; without it, it is refused."""

    model: str
    texts: tuple[str, ...]
    truncate: bool
    dimensions: int | None
    keep_alive_s: float | None
    warnings: tuple[str, ...]


@router.post("/api/embed", openapi_extra=EMBED.described("model", "input"))
async def embed(http: HttpRequest) -> Response:
    """Vectors of one or more texts."""
    arrived_s = perf_counter()
    body = await body_of(http)
    asked = _read(body, EMBED, body.fields.get("input"))
    record = await while_connected(http, _embed(state_of(http), asked, arrived_s))
    return JSONResponse({"model": asked.model, **record})


@router.post("/api/embeddings", openapi_extra=EMBEDDINGS.described("model", "prompt"))
async def embeddings(http: HttpRequest) -> Response:
    """The vector of one text; the older form, without measurements."""
    body = await body_of(http)
    asked = _read(body, EMBEDDINGS, body.text("prompt") or [])
    record = await while_connected(http, _embed(state_of(http), asked, perf_counter()))
    return JSONResponse({"embedding": record["embeddings"][0] if record["embeddings"] else []})


def _read(body: Body, fields: Fields, texts: object) -> _Asked:
    warnings = list(fields.check(body.fields))
    options = body.mapping("options")
    read_parameters(options)  # refuses what is none
    warnings += [f"The option '{name}' was ignored: it {_NO_EFFECT}." for name in options if options[name] is not None]
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("'input' is a text or a list of texts.", param="input")
    if len(texts) > MAX_TEXTS:
        raise InvalidRequest(f"'input' has {len(texts)} texts, at most {MAX_TEXTS}.", param="input")
    dimensions = body.whole("dimensions") or None
    if dimensions is not None and dimensions < 0:
        raise InvalidRequest(f"'dimensions' is {dimensions}, but must be at least 1.", param="dimensions")
    return _Asked(
        model=body.require_text("model"),
        texts=tuple(texts),
        truncate=bool(body.flag("truncate")),
        dimensions=dimensions,
        keep_alive_s=read_keep_alive(body.fields.get("keep_alive")),
        warnings=tuple(warnings),
    )


async def _embed(state: ServerState, asked: _Asked, arrived_s: float) -> dict[str, Any]:
    reference = str(find_reference(asked.model, state.store))
    if not asked.texts and asked.keep_alive_s == 0:
        await check_manager()
        await in_thread(partial(state.pool.unload, reference))
        return {"embeddings": []}
    keep_alive_s, unkept = granted_keep_alive(asked.keep_alive_s)
    async with leased(state.pool, reference, keep_alive_s=keep_alive_s) as loaded:
        load_s = perf_counter() - arrived_s
        embedder = as_embedder(loaded)
        async with placed(embedder):
            result, cut = await in_thread(partial(embed_texts, embedder, asked.texts, truncate=asked.truncate))
    warnings = [*asked.warnings, *unkept, *cut]
    return {
        "embeddings": [shortened(vector, asked.dimensions) for vector in result.vectors],
        "total_duration": nanoseconds(perf_counter() - arrived_s),
        "load_duration": nanoseconds(load_s),
        "prompt_eval_count": result.prompt_tokens,
        **({"madang": {"warnings": warnings}} if warnings else {}),
    }


def embed_texts(embedder: Embedder, texts: Sequence[str], *, truncate: bool) -> tuple[Embeddings, list[str]]:
    """Vectors, and a sentence for each text that had to be cut. Raises ContextLengthExceeded without ``truncate``."""
    if not texts:
        return Embeddings((), 0), []
    if not truncate:
        return embedder.embed(texts), []
    try:
        return embedder.embed(texts), []
    except ContextLengthExceeded:
        pass
    vectors: list[Sequence[float]] = []
    cuts, n_tokens = [], 0
    for number, text in enumerate(texts):
        result, kept = _embed_cut(embedder, text)
        vectors += result.vectors
        n_tokens += result.prompt_tokens
        if kept < len(text):
            cuts.append(f"Of input {number}, {len(text) - kept} of {len(text)} characters were dropped at its end.")
    return Embeddings(vectors, n_tokens), cuts


def _embed_cut(embedder: Embedder, text: str) -> tuple[Embeddings, int]:
    """The vector of as much of a text as fits, and how many characters that is."""
    kept = len(text)
    for _ in range(MAX_CUTS):
        try:
            return embedder.embed([text[:kept]]), kept
        except ContextLengthExceeded as error:
            kept = min(int(kept * error.n_ctx / error.n_prompt_tokens * CUT_SHARE), kept - 1)
    return embedder.embed([text[:kept]]), kept


def shortened(vector: Sequence[float], dimensions: int | None) -> list[float]:
    """The first numbers of a vector, at length 1 again (Matryoshka embeddings, arXiv:2205.13147)."""
    values = [float(value) for value in vector]
    if dimensions is None or dimensions == len(values):
        return values
    if dimensions > len(values):
        raise InvalidRequest(
            f"'dimensions' is {dimensions}, but this model's vectors have {len(values)}.", param="dimensions"
        )
    length = math.sqrt(sum(value * value for value in values[:dimensions]))
    return [value / length if length else value for value in values[:dimensions]]
