"""Models of the store, how they would be loaded, and those in memory."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from madang.server.manage.documents.base import Document, Request, Sentence


class Model(Document):
    """A model of the store. ``capabilities``: completion, embedding, tools, thinking."""

    name: str
    format: str
    size_bytes: int
    modified_at: datetime
    source: str
    architecture: str
    parameters: int | None
    quantization: str
    context_tokens: int | None
    capabilities: list[str]


class Models(Document):
    """All of them, by name."""

    models: list[Model]


class File(Document):
    """One file of a model; ``digest`` is null for one that stays where it was found."""

    name: str
    size_bytes: int
    digest: str | None


class Turn(Document):
    """A message."""

    role: str
    content: str


class ModelPreset(Document):
    """What a derived model adds to every conversation."""

    parent: str | None
    system: str | None
    messages: list[Turn]
    stop: list[str]
    max_tokens: int | None
    context_tokens: int | None
    sampling: dict[str, Any]


class WholeModel(Model):
    """With everything that its files say."""

    files: list[File]
    sampling: dict[str, Any]
    preset: ModelPreset | None
    license: str | None
    chat_template: str | None
    metadata: dict[str, Any]


class Removed(Document):
    """How much room it left."""

    name: str
    freed_bytes: int


class Choice(Document):
    """A setting, and why it has this value; ``told`` is the reason again."""

    name: str
    value: int | float | str | bool | None
    reason: str
    told: Sentence


class Memory(Document):
    """What the model takes, with its context full."""

    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int
    total_bytes: int


class ModelPlan(Document):
    """How a model would be loaded now."""

    name: str
    engine: str
    engine_reason: str
    engine_told: Sentence
    choices: list[Choice]
    memory: Memory | None


class ResidentModel(Document):
    """A model in memory; ``expires_at`` is null for one that stays."""

    name: str
    engine: str
    context_tokens: int
    max_concurrency: int
    load_s: float
    size_bytes: int
    loaded_at: datetime
    expires_at: datetime | None
    leases: int
    reason: str


class LoadRequest(Request):
    """Which model to load. ``keep_alive_s`` is how long it stays after its last request: -1 for ever, null as usual."""

    model: str
    keep_alive_s: float | None = Field(default=None, ge=-1, le=31_536_000)


class ResidentModels(Document):
    """Everything in memory."""

    models: list[ResidentModel]


class Unloaded(Document):
    """It goes now, or when its last request is answered."""

    name: str
