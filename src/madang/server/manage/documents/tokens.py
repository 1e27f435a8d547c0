"""A text in the tokens of models."""

from __future__ import annotations

from pydantic import Field

from madang.server.manage.documents.base import Document, Request


class TokensRequest(Request):
    """A text, and whose tokens to show. ``special``: with those around a text, and control tokens that it spells."""

    text: str = Field(max_length=20_000)
    models: list[str] = Field(min_length=1, max_length=8)
    special: bool = False


class TextToken(Document):
    """``start`` and ``end`` are characters of the text, the same for tokens that are parts of one character.

    Bytes that are no whole characters are written as <0xED> in ``text``.
    """

    id: int
    text: str
    start: int
    end: int
    is_control: bool


class ModelTokens(Document):
    """A text in one model's tokens. ``tokens_per_letter``: by script (korean, english), of the letters of each.

    ``context_share`` is of the context that the model was trained for.
    """

    name: str
    n_tokens: int
    tokens_per_character: float | None
    tokens_per_letter: dict[str, float]
    context_tokens: int | None
    context_share: float | None
    vocabulary_size: int
    tokens: list[TextToken]


class TextTokens(Document):
    """A text in the tokens of each model, in the order in which they were asked for."""

    n_characters: int
    models: list[ModelTokens]
