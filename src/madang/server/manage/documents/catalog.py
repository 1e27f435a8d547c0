"""Models that can be pulled by name, and those that serve a wish."""

from __future__ import annotations

from typing import Literal

from madang.server.manage.documents.base import Document, Sentence


class Forecast(Document):
    """What a model of the catalog would be on this machine, in the type that its name means; null is unknown.

    ``fits``: yes is into what is free now, tight into all memory of the machine. ``memory_bytes`` is with
    ``context_tokens`` of context; where ``is_exact`` is false, an estimate without that.
    """

    type: str | None
    fits: Literal["yes", "tight", "no"] | None
    memory_bytes: int | None
    context_tokens: int
    tokens_per_s: float | None
    is_exact: bool


class CatalogModel(Document):
    """A model that can be pulled by name. ``types`` are those that its publisher has files of."""

    name: str
    source: str
    task: str
    tasks: list[str]
    parameters: int | None
    context_tokens: int | None
    license: str | None
    commercial: str | None
    languages: list[str]
    size_bytes: int | None
    is_here: bool
    family: str | None
    year: int | None
    note: str | None
    types: list[str]
    forecast: Forecast


class Catalog(Document):
    """Every model that madang knows by name. ``speed_is`` says what predicts speeds."""

    models: list[CatalogModel]
    speed_is: str
    speed_told: Sentence


class Recommendation(Document):
    """A model that serves a wish, in the type that does it best; null is unknown.

    ``pull`` is what to fetch; ``steps`` are the commands after which it runs in this type. ``memory_bytes`` is with
    ``context_tokens`` of context, an estimate where ``is_exact`` is false; ``most_context_tokens`` fit at most.
    """

    name: str
    pull: str
    steps: list[str]
    type: str
    made_here: bool
    engine: str
    memory_bytes: int
    is_exact: bool
    context_tokens: int
    most_context_tokens: int | None
    tokens_per_s: float | None
    license: str | None
    commercial: str | None
    score: float
    reasons: list[str]
    told: list[Sentence]
    is_here: bool


class Recommendations(Document):
    """The best first, by ``rule``; how many each condition left out, and what predicts speeds.

    ``memory_bytes`` is what was asked for, or what is free now.
    """

    task: str
    memory_bytes: int
    models: list[Recommendation]
    left_out: dict[str, int]
    rule: str
    speed_is: str
    speed_told: Sentence
