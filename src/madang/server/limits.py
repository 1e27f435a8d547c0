"""What one request may have and what the server keeps waiting: every bound stands in this file.

The checks are for the translations from the wire; each raises InvalidRequest that names the field. Bounds on sampling
parameters and stop strings stand in :mod:`madang.core`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from madang.core.engine import Loaded
from madang.core.errors import InvalidRequest, Overloaded, RequestTimeout, RequestTooLarge
from madang.core.sampling import SAMPLING_LIMITS

BODY_BYTES = 32 << 20
BLOB_BYTES = 256 << 30  # of an upload, which goes to the disk and is stopped by what is free there
HEADER_S = 10.0  # from the first byte of a request to the last one of its headers
BODY_IDLE_S = 30.0  # between two pieces of a body
BODY_S = 120.0  # for a whole body; uploads have no such limit
STALL_S = 60.0  # that a client may let an answer wait before it takes more of it
CONNECTIONS = 512  # open at once; files and sockets of a process are often bounded by 1,024
WAITING = 128  # generations that wait for an engine, all engines together
DRAIN_S = 30.0  # that running requests have when the server stops

# Field of a request -> how many of it there may be.
COUNTS: Mapping[str, int] = {
    "messages": 4096,
    "parts": 256,  # of one message
    "tools": 256,
    "input": 2048,  # texts to embed
    "documents": 2048,  # to rank
    "prompt": 256,  # of one completion request
    "images": 16,
    "stop": 16,
    "logit_bias": 1024,
}
# Field -> smallest and largest whole number.
RANGES: Mapping[str, tuple[int, int]] = {
    "n": (1, 16),
    "best_of": (0, 16),
    "max_tokens": (0, 1 << 20),
    "max_completion_tokens": (0, 1 << 20),
    "max_output_tokens": (0, 1 << 20),
    "dimensions": (1, 1 << 16),
    "top_n": (1, 2048),
    "context_tokens": (1, 1 << 24),
}
# The same for every number that a request may have: what the OpenAPI document says. Sampling is checked in core.
NUMBERS: Mapping[str, tuple[float, float]] = {
    **SAMPLING_LIMITS,
    "top_logprobs": SAMPLING_LIMITS["logprobs"],
    **RANGES,
}
# Field -> characters. What is sent to a model is bounded by the body and the context.
CHARACTERS: Mapping[str, int] = {"model": 4096, "name": 256, "user": 512, "description": 1 << 16, "keep_alive": 64}
NAME_CHARACTERS = 256
SCHEMA_CHARACTERS = 1 << 18
SCHEMA_DEPTH = 32
SCHEMA_NODES = 20_000


def check_fields(body: object) -> None:
    """Every bound of this file that goes by the name of a field, on a body before it is looked at more closely."""
    if not isinstance(body, Mapping):
        return
    for field, value in body.items():
        if field in COUNTS and isinstance(value, list | dict):
            check_count(field, value)
        if field in RANGES and isinstance(value, int):
            check_range(field, value)
        if field in CHARACTERS and isinstance(value, str):
            check_text(field, value)
    _check_schemas(body)


def _check_schemas(body: Mapping[str, Any]) -> None:
    """Wherever the APIs have them: tools, OpenAI's response_format, Ollama's format."""
    for tool in _list(body.get("tools")):
        schema = _inside(_inside(tool, "function"), "parameters") or _inside(tool, "parameters", "input_schema")
        if schema is not None:
            check_schema(schema, param="tools")
    for field in ("response_format", "format", "text"):
        value = body.get(field)
        if isinstance(value, Mapping):
            check_schema(value, param=field)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _inside(value: object, *names: str) -> Any:
    """The first of these members that there is; None without an object."""
    return next((value[name] for name in names if name in value), None) if isinstance(value, Mapping) else None


def check_count(field: str, values: Sized | None) -> None:
    """At most so many messages, tools, texts, … as :data:`COUNTS` says."""
    if values is not None and len(values) > COUNTS[field]:
        raise InvalidRequest(f"{field} has {len(values)} entries, but may have {COUNTS[field]}.", param=field)


def check_range(field: str, value: int | None, *, param: str | None = None) -> None:
    """A whole number within :data:`RANGES`; ``param`` is what the client calls it, as max_completion_tokens."""
    if value is None:
        return
    low, high = RANGES[field]
    name = field if param is None else param
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}.", param=name)


def check_text(field: str, value: str | None) -> None:
    """A text of at most so many characters as :data:`CHARACTERS` says."""
    most = CHARACTERS.get(field, NAME_CHARACTERS)
    if value is not None and len(value) > most:
        raise InvalidRequest(f"{field} has {len(value)} characters, but may have {most}.", param=field)


def check_schema(schema: object, *, param: str = "schema") -> None:
    """A JSON schema that is an object, not too large and not too deep to be compiled."""
    if not isinstance(schema, Mapping):
        raise InvalidRequest("A schema is a JSON object.", param=param)
    n_nodes, level, depth = 0, [schema], 0
    while level:
        depth += 1
        n_nodes += len(level)
        if depth > SCHEMA_DEPTH:
            raise InvalidRequest(f"The schema is nested more than {SCHEMA_DEPTH} levels deep.", param=param)
        if n_nodes > SCHEMA_NODES:
            raise InvalidRequest(f"The schema has more than {SCHEMA_NODES} parts.", param=param)
        level = [child for node in level for child in _children(node)]
    if len(json.dumps(schema, ensure_ascii=False)) > SCHEMA_CHARACTERS:
        raise InvalidRequest(f"The schema has more than {SCHEMA_CHARACTERS} characters.", param=param)


def _children(node: object) -> list[Any]:
    """What of a JSON value has parts of its own; the others cannot make it deep, and count with their parent's text."""
    if isinstance(node, Mapping):
        return [value for value in node.values() if isinstance(value, Mapping | list)]
    return [value for value in node if isinstance(value, Mapping | list)] if isinstance(node, list) else []


class BodyClock:
    """Counts the bytes of a body and the time that it takes, whatever its headers promise. Times in seconds."""

    def __init__(
        self,
        limit_bytes: int,
        whole_s: float | None,
        *,
        idle_s: float = BODY_IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_bytes, self._whole_s, self.idle_s = limit_bytes, whole_s, idle_s
        self._clock = clock
        self._end_s = None if whole_s is None else clock() + whole_s
        self._n_bytes = 0

    def patience_s(self) -> float:
        """How long to wait for the next piece."""
        return self.idle_s if self._end_s is None else max(min(self.idle_s, self._end_s - self._clock()), 0.0)

    def count(self, n_bytes: int) -> None:
        """Raises RequestTooLarge when it is more than the limit, RequestTimeout when it took too long."""
        self._n_bytes += n_bytes
        if self._n_bytes > self._limit_bytes:
            raise RequestTooLarge(self._limit_bytes)
        if self._end_s is not None and self._clock() > self._end_s:
            raise RequestTimeout(self._whole_s or 0.0)


@dataclass(eq=False, slots=True)
class Place:
    """Of one generation; ``had_company`` once another one has run beside it."""

    had_company: bool = False


class Admission:
    """The queue in front of the engines: first come, first served, and only so many.

    One for all engines, each of which has as many places as it runs generations at once.
    """

    def __init__(self, limit: int = WAITING) -> None:
        self._limit = limit
        self._places: WeakKeyDictionary[Loaded, asyncio.Semaphore] = WeakKeyDictionary()
        self._held: set[Place] = set()
        self.n_waiting = 0
        self._seconds = 1.0  # that a generation takes, lately

    @property
    def n_running(self) -> int:
        """Places that are held."""
        return len(self._held)

    @asynccontextmanager
    async def place(self, engine: Loaded) -> AsyncIterator[Place]:
        """A place of the engine, waiting for it. Raises Overloaded at once when too many wait already."""
        places = self._places.get(engine)
        if places is None:
            places = self._places[engine] = asyncio.Semaphore(engine.info.max_concurrency)
        if places.locked() and self.n_waiting >= self._limit:
            raise Overloaded(
                f"{self.n_waiting} requests are waiting already, which is the limit.",
                retry_after_s=self._seconds * (1 + self.n_waiting / engine.info.max_concurrency),
            )
        self.n_waiting += 1
        try:
            await places.acquire()
        finally:
            self.n_waiting -= 1
        place = Place(had_company=bool(self._held))
        for other in self._held:
            other.had_company = True
        self._held.add(place)
        began_s = time.monotonic()
        try:
            yield place
        finally:
            self._held.remove(place)
            places.release()
            self._seconds += 0.2 * (time.monotonic() - began_s - self._seconds)
