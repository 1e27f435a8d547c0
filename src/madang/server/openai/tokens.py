"""Texts and tokens without an answer: ``/tokenize``, ``/detokenize`` and ``/apply-template`` of llama.cpp's server."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from madang.core.engine import Loaded, LogitSource, Speller
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.server.bridge import in_thread, leased
from madang.server.deriving import meant
from madang.server.names import leasable
from madang.server.state import ServerState
from madang.server.wire import Refused, WireRequest


class TokenizeRequest(WireRequest):
    """The body: ``content`` as llama.cpp's server calls the text, or ``prompt`` as vLLM does."""

    model: str
    content: str | None = None
    prompt: str | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {
        "add_special": "the tokens that the model expects around a text are always there",
        "add_special_tokens": "the tokens that the model expects around a text are always there",
        "parse_special": "control tokens that are written out count as such",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "with_pieces": Refused("only the ids are told", harmless=(False,)),
        "messages": Refused("ask /v1/chat/completions/input_tokens how long a conversation is"),
    }

    @property
    def text(self) -> str:
        """Raises InvalidRequest when there is none, or two."""
        given = [text for text in (self.content, self.prompt) if text is not None]
        if len(given) != 1:
            raise InvalidRequest("Send the text as content or as prompt.", param="content")
        return given[0]


class DetokenizeRequest(WireRequest):
    """The body: ids of the model's own tokens."""

    model: str
    tokens: list[int]


async def tokenize(state: ServerState, body: TokenizeRequest) -> dict[str, Any]:
    """Ids, how many, and how many the model takes. Raises InvalidRequest, and what loading raises."""
    warnings, text = body.ignored(), body.text
    async with leased(state.pool, leasable(body.model, state.store)) as loaded:
        if not isinstance(loaded, LogitSource):
            raise InvalidRequest(f"The {loaded.info.engine} engine does not show its tokens.", param="model")
        tokens = await in_thread(partial(loaded.tokenize, text))
        told = {"tokens": list(tokens), "count": len(tokens), "max_model_len": loaded.info.context_tokens}
    return told | ({"madang": {"warnings": warnings}} if warnings else {})


async def detokenize(state: ServerState, body: DetokenizeRequest) -> dict[str, Any]:
    """The text. Raises InvalidRequest, and what loading raises."""
    warnings = body.ignored()
    async with leased(state.pool, leasable(body.model, state.store)) as loaded:
        text = await in_thread(partial(_speller(loaded).detokenize, body.tokens))
    return {"content": text} | ({"madang": {"warnings": warnings}} if warnings else {})


async def apply_template(state: ServerState, model: str, request: Request) -> dict[str, Any]:
    """The prompt as text. Raises InvalidRequest, TemplateError, and what loading raises."""
    reference, preset = meant(state.store, model)
    async with leased(state.pool, reference) as loaded:
        render = _speller(loaded).render
        return {"prompt": await in_thread(partial(render, request if preset is None else preset.apply(request)))}


def _speller(loaded: Loaded) -> Speller:
    if isinstance(loaded, Speller):
        return loaded
    raise InvalidRequest(f"The {loaded.info.engine} engine does not show its tokens.", param="model")
