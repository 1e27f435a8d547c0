"""Tokens of a text or a conversation, without an answer: ``/tokenize`` and ``/v1/chat/completions/input_tokens``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from madang.core.engine import LogitSource
from madang.core.errors import InvalidRequest
from madang.server.bridge import in_thread, leased
from madang.server.state import ModelPool
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


async def tokenize(pool: ModelPool, body: TokenizeRequest) -> dict[str, Any]:
    """Ids, how many, and how many the model takes. Raises InvalidRequest, and what loading raises."""
    warnings, text = body.ignored(), body.text
    async with leased(pool, body.model) as loaded:
        if not isinstance(loaded, LogitSource):
            raise InvalidRequest(f"The {loaded.info.engine} engine does not show its tokens.", param="model")
        tokens = await in_thread(partial(loaded.tokenize, text))
        told = {"tokens": list(tokens), "count": len(tokens), "max_model_len": loaded.info.context_tokens}
    return told | ({"madang": {"warnings": warnings}} if warnings else {})
