"""What the API answers with. Sizes are in bytes, times in UTC; null is unknown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from madang.chat import ContextPolicy
from madang.server.wire import check_characters


class Document(BaseModel):
    """Every answer is an object."""


class Request(BaseModel):
    """Every body is an object, of these fields only."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_body(cls, body: object) -> object:
        check_characters(body)
        return body


class Version(Document):
    """The server."""

    version: str
    started_at: datetime


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
    """A setting, and why it has this value."""

    name: str
    value: int | float | str | bool | None
    reason: str


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
    choices: list[Choice]
    memory: Memory | None


class Failure(Document):
    """Why something ended without a result."""

    code: str
    message: str


class PullState(Document):
    """A download. ``completed_bytes`` may fall when a source has to begin a file again."""

    id: str
    model: str
    state: Literal["starting", "pulling", "done", "failed", "cancelled"]
    total_bytes: int | None
    completed_bytes: int
    started_at: datetime
    error: Failure | None


class PullStates(Document):
    """All that are under way, and the last that are over."""

    pulls: list[PullState]


class PullRequest(Document):
    """Which model to fetch."""

    model: str


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


class Setting(Document):
    """A setting of the server, and where its value came from."""

    name: str
    value: str | None
    origin: str


class EngineState(Document):
    """An engine, and the command that installs it."""

    name: str
    is_installed: bool
    formats: list[str]
    install: str


class Machine(Document):
    """What the server runs on. ``machine`` has what could be found out; null is unknown."""

    machine: dict[str, Any]
    engines: list[EngineState]
    settings: list[Setting]
    largest_model_bytes: int | None


class SessionState(Document):
    """A conversation that is kept. ``head`` is the message that it ends with now.

    ``title_by`` says who gave it its title: the first question, its model, or a person. Tags and summary are what its
    model says it is about, unless a person did.
    """

    id: str
    title: str
    title_by: Literal["question", "model", "person"]
    tags: list[str]
    summary: str
    created_at: datetime
    updated_at: datetime
    model: str | None
    persona: str | None
    context_policy: ContextPolicy
    head: str | None


class SessionStates(Document):
    """The caller's, the last used first."""

    sessions: list[SessionState]


class SessionMessage(Document):
    """One turn. ``state`` is partial for an answer that was cut; ``facts``: usage, timings and ledger of an answer."""

    id: str
    parent: str | None
    role: str
    content: str
    reasoning: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str | None
    name: str | None
    state: Literal["whole", "partial"]
    model: str | None
    facts: dict[str, Any]
    created_at: datetime


class WholeSession(SessionState):
    """With its messages: the conversation up to the head, or all branches."""

    messages: list[SessionMessage]


class SessionRequest(Request):
    """What a session is to be. What is left out stays; an empty model or persona is none.

    A title that is given stays; an empty one lets the next question give it. Tags that are given stay, too.
    """

    title: str | None = None
    model: str | None = None
    persona: str | None = None
    context_policy: ContextPolicy | None = None
    tags: list[str] | None = Field(default=None, max_length=16)


class NewMessage(Request):
    """A turn that was said elsewhere."""

    role: Literal["user", "assistant"]
    content: str


class NewMessages(Request):
    """What to add to a session. ``parent`` is the message that they follow: unset the last, "" none."""

    messages: list[NewMessage] = Field(min_length=1, max_length=4096)
    parent: str | None = None


class BranchRequest(Request):
    """The message that the conversation ends with from now on; null is before the first."""

    message: str | None


class ImportRequest(Request):
    """A session that was exported: its JSON in ``document``, or its Markdown."""

    document: dict[str, Any] | None = None
    markdown: str | None = None


class RemovedSession(Document):
    """It is gone, with everything that was said in it."""

    id: str


class PersonaState(Request):
    """Who answers in a session. ``collections`` are names of documents to look into."""

    name: str
    style: str = ""
    system: str = ""
    model: str | None = None
    collections: list[str] = Field(default=[], max_length=64)


class PersonaStates(Document):
    """The caller's, by name."""

    personas: list[PersonaState]


class RemovedPersona(Document):
    """It is gone; sessions that name it go on without."""

    name: str


class RunState(Document):
    """One generation. ``facts``: usage, timings and ledger, or the code of the error that ended it."""

    id: int
    model: str
    status: Literal["done", "failed", "cancelled"]
    started_at: datetime
    facts: dict[str, Any]


class RunStates(Document):
    """The caller's, the newest first."""

    runs: list[RunState]


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


class Percentiles(Document):
    """Half, 95 and 99 of 100 are not above these."""

    p50: float
    p95: float
    p99: float


class ModelMetrics(Document):
    """One model: totals since the start, and the latest, of its last 512 generations; null without any.

    ``tokens_per_s`` is of its answers together, over the last ten seconds. ``cache_hit_share``: of the tokens of
    prompts, those that were not read again.
    """

    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    tokens_per_s: float
    cache_hit_share: float | None
    time_to_first_token_s: Percentiles | None
    inter_token_latency_s: Percentiles | None
    time_per_output_token_s: Percentiles | None
    request_s: Percentiles | None


class ResidentNow(Document):
    """A model in memory; ``expires_at`` is null for one that stays."""

    model: str
    engine: str
    context_tokens: int
    max_concurrency: int
    size_bytes: int
    loaded_at: datetime
    expires_at: datetime | None
    leases: int
    reason: str


class MemoryUse(Document):
    """``process_bytes`` is what the server and the processes of its engines hold."""

    process_bytes: int
    machine_total_bytes: int
    machine_available_bytes: int


class Metrics(Document):
    """What the server does: generations that run and wait, each model, and memory."""

    uptime_s: float
    running: int
    waiting: int
    models: dict[str, ModelMetrics]
    resident: list[ResidentNow]
    memory: MemoryUse


class LiveRequest(Document):
    """A request that uses a model now. ``key`` is empty where none is needed.

    ``prompt_tokens`` is null until the answer is whole; ``completion_tokens`` are pieces of text so far.
    """

    id: str
    model: str
    path: str
    key: str
    started_at: datetime
    state: Literal["waiting", "reading", "answering"]
    prompt_tokens: int | None
    completion_tokens: int
    tokens_s: float | None


class LiveRequests(Document):
    """All of them, the oldest first."""

    requests: list[LiveRequest]


class ComparisonRequest(Request):
    """Which models of this machine to measure side by side; the first is the reference. ``name@engine`` is one by it.

    text            whether to read the texts that come with madang, for perplexity and divergence
    prompts         to be answered by all, with at most ``answer_tokens`` each
    repetitions     runs of the speed
    """

    models: list[str] = Field(min_length=1, max_length=8)
    prompts: list[Annotated[str, Field(min_length=1, max_length=8000)]] = Field(default=[], max_length=16)
    text: bool = True
    answer_tokens: int = Field(default=48, ge=1, le=1024)
    repetitions: int = Field(default=3, ge=0, le=20)


class Comparison(Document):
    """One comparison. ``at_work`` is the model that is measured now; steps are those of all models together."""

    id: str
    models: list[str]
    state: Literal["measuring", "done", "failed", "cancelled"]
    started_at: datetime
    at_work: str | None
    n_done: int
    n_steps: int
    error: Failure | None


class Comparisons(Document):
    """Those that are being made or have failed, then those with a result, each the newest first."""

    comparisons: list[Comparison]


class WholeComparison(Comparison):
    """With its figures, as ``madang compare --json`` has them; null until it is over."""

    result: dict[str, Any] | None


class RemovedComparison(Document):
    """It ends, or is forgotten."""

    id: str
