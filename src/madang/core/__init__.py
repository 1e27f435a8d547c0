"""core: the vocabulary that every room speaks. Standard library only.

Main path: a :class:`Request` goes into an :class:`Engine`, a stream of :data:`Event` comes out, :func:`collect`
folds it.
Invariants: values are immutable; None is unset and 0 is a value; every deliberate failure is a :class:`MadangError`.
"""

from madang.core.constraint import Constraint, Grammar, JsonSchema, Regex
from madang.core.engine import (
    AdapterHost,
    Benchmarkable,
    CacheHolder,
    CacheUsage,
    Cancellable,
    Embedder,
    Embeddings,
    Engine,
    EngineInfo,
    Loaded,
    LogitSource,
    Pushing,
    Scored,
    Scorer,
    Speller,
    Supervised,
    TokenCounter,
    Trace,
    Tracer,
    streaming,
)
from madang.core.errors import MadangError
from madang.core.events import (
    Completion,
    ContextLedger,
    Done,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    checked,
    collect,
)
from madang.core.messages import Message, Role, Tool, ToolCall
from madang.core.request import AdapterChoice, Priority, Request
from madang.core.sampling import SAMPLING_DEFAULTS, SamplingParams

__all__ = [
    "SAMPLING_DEFAULTS",
    "AdapterChoice",
    "AdapterHost",
    "Benchmarkable",
    "CacheHolder",
    "CacheUsage",
    "Cancellable",
    "Completion",
    "Constraint",
    "ContextLedger",
    "Done",
    "Embedder",
    "Embeddings",
    "Engine",
    "EngineInfo",
    "Event",
    "FinishReason",
    "Grammar",
    "JsonSchema",
    "Loaded",
    "LogitSource",
    "MadangError",
    "Message",
    "Priority",
    "Pushing",
    "ReasoningDelta",
    "Regex",
    "Request",
    "Role",
    "SamplingParams",
    "Scored",
    "Scorer",
    "Speller",
    "Supervised",
    "TextDelta",
    "Timings",
    "TokenCounter",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Trace",
    "Tracer",
    "Usage",
    "checked",
    "collect",
    "streaming",
]
