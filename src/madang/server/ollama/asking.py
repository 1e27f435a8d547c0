"""From the bodies of ``/api/chat`` and ``/api/generate`` to a core.Request: pure translation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from madang.core.constraint import Constraint, JsonSchema
from madang.core.engine import EngineInfo
from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool, ToolCall
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.models.parameters import read_parameters
from madang.server.exchanges import WireSession
from madang.server.ollama.body import Body, Fields
from madang.server.ollama.durations import read_keep_alive
from madang.server.ollama.history import read_context
from madang.server.wire import problem_of

IMAGES: Final = "madang reads no images"
_COMMON: Final = (
    "model",
    "stream",
    "format",
    "options",
    "keep_alive",
    "think",
    "truncate",
    "logprobs",
    "top_logprobs",
)
_SHIFT: Final = {"shift": "an answer ends where its context is full, and done_reason says 'length'"}
_SIZES: Final = dict.fromkeys(("width", "height", "steps"), "madang makes no images")

CHAT: Final = Fields(honoured=(*_COMMON, "messages", "tools", "madang"), ignored=_SHIFT)
GENERATE: Final = Fields(
    honoured=(*_COMMON, "prompt", "system", "context", "raw"),
    ignored=_SHIFT,
    refused={
        "images": IMAGES,
        "suffix": "madang does not fill in the middle; put what comes after into the prompt",
        "template": "madang runs the model's own template; render the prompt yourself and send it with 'raw': true",
        **_SIZES,
    },
)
_MESSAGE: Final = Fields(
    honoured=("role", "content", "tool_calls", "tool_name", "tool_call_id"),
    ignored={"thinking": "templates are given the answers of earlier turns, without the reasoning before them"},
    refused={"images": IMAGES},
)
_LEVELS: Final = ("low", "medium", "high", "max")
MAX_TOP_LOGPROBS: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants.

    request       None when it only wants the model loaded or unloaded
    keep_alive_s  negative is forever, None the pool's default
    truncate      drop the oldest turns of a conversation that does not fit, rather than refuse it
    keeps         whether the answer carries a ``context``
    wire          the session and documents that it belongs to
    """

    model: str
    request: Request | None
    stream: bool
    keep_alive_s: float | None = None
    truncate: bool = False
    keeps: bool = False
    wire: WireSession | None = None
    warnings: tuple[str, ...] = field(default=())


def read_chat(body: Body) -> Asked:
    """Raises InvalidRequest, naming the field."""
    warnings = list(CHAT.check(body.fields))
    messages = tuple(_message(entry, n, warnings) for n, entry in enumerate(body.entries("messages")))
    tools = tuple(_tool(entry) for entry in body.entries("tools"))
    return replace(_asked(body, warnings, messages=messages, tools=tools), wire=_wire(body))


def _wire(body: Body) -> WireSession | None:
    """The extension that OpenAI's API has here too. Raises InvalidRequest."""
    given = body.mapping("madang")
    try:
        return WireSession.model_validate(given) if given else None
    except ValidationError as error:
        raise problem_of([{**first, "loc": ("madang", *first["loc"])} for first in error.errors()[:1]]) from None


def read_generate(body: Body) -> Asked:
    """The same; a prompt is a chat's next question, after what ``context`` recalls, unless it is ``raw``."""
    warnings = list(GENERATE.check(body.fields))
    prompt, system = body.text("prompt") or "", body.text("system")
    if body.flag("raw"):
        for name in ("system", "context"):
            if body.fields.get(name):
                raise InvalidRequest(f"'{name}' has no place in a raw prompt.", param=name)
        return _asked(body, warnings, prompt=prompt)
    recalled = read_context(body.entries("context"))
    if system:
        recalled = tuple(message for message in recalled if message.role != "system")
        recalled = (Message("system", system), *recalled)
    messages = (*recalled, Message("user", prompt)) if prompt else ()
    return _asked(body, warnings, messages=messages, keeps=True)


def _asked(
    body: Body,
    warnings: list[str],
    *,
    messages: tuple[Message, ...] = (),
    tools: tuple[Tool, ...] = (),
    prompt: str = "",
    keeps: bool = False,
) -> Asked:
    parameters = read_parameters(body.mapping("options"))
    warnings += parameters.warnings
    sampling = _with_logprobs(body, parameters.sampling, warnings)
    reasoning, constraint = _reasoning(body.fields.get("think"), warnings), read_format(body.fields.get("format"))
    request = None
    if messages or prompt:
        request = Request(
            messages=messages,
            prompt=None if messages else prompt,
            tools=tools,
            sampling=sampling,
            max_tokens=parameters.max_tokens,
            stop=parameters.stop,
            constraint=constraint,
            reasoning=reasoning,
            context_tokens=parameters.context_tokens,
        )
    stream, truncate = body.flag("stream"), body.flag("truncate")
    return Asked(
        model=body.require_text("model"),
        request=request,
        stream=True if stream is None else stream,
        keep_alive_s=read_keep_alive(body.fields.get("keep_alive")),
        truncate=bool(truncate),
        keeps=keeps,
        warnings=tuple(warnings),
    )


def within_context(request: Request, info: EngineInfo) -> tuple[Request, tuple[str, ...]]:
    """The request with no larger context than the engine's own, and a warning if it asked for one."""
    if request.context_tokens is None or request.context_tokens <= info.context_tokens:
        return request, ()
    n_ctx = info.context_tokens
    warning = f"num_ctx is {request.context_tokens}, but the model was opened with {n_ctx}, which holds."
    return replace(request, context_tokens=None), (warning,)


def read_format(value: object) -> Constraint | None:
    """``"json"`` is any JSON object, an object is a schema."""
    if value is None or value == "":
        return None
    if value == "json":
        return JsonSchema({"type": "object"})
    if isinstance(value, dict):
        return JsonSchema(value)
    raise InvalidRequest("'format' is 'json' or a JSON schema.", param="format")


def _reasoning(value: object, warnings: list[str]) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if value in _LEVELS:
        warnings.append(f"'think' was taken as true: madang knows no levels such as '{value}'.")
        return True
    raise InvalidRequest(f"'think' is true, false, or one of {', '.join(_LEVELS)}.", param="think")


def _with_logprobs(body: Body, sampling: SamplingParams, warnings: list[str]) -> SamplingParams:
    n_top = body.whole("top_logprobs")
    if n_top is not None and not 0 <= n_top <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"'top_logprobs' is 0 to {MAX_TOP_LOGPROBS}.", param="top_logprobs")
    if body.flag("logprobs"):
        return replace(sampling, logprobs=n_top or 0)
    if n_top:
        warnings.append("'top_logprobs' was ignored: 'logprobs' is not set.")
    return sampling


def _message(entry: object, n: int, warnings: list[str]) -> Message:
    body = _object(entry, f"messages[{n}]")
    warnings += [f"messages[{n}]: {warning}" for warning in _MESSAGE.check(body.fields)]
    calls = [_call(call, f"messages[{n}].tool_calls", k) for k, call in enumerate(body.entries("tool_calls"))]
    return Message(
        role=body.require_text("role"),  # type: ignore[arg-type]  # Message itself looks whether it is one
        content=body.text("content") or "",
        tool_calls=tuple(calls),
        tool_call_id=body.text("tool_call_id"),
        name=body.text("tool_name"),
    )


def read_messages(entries: list[Any]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Messages outside of a request, and warnings for what has no effect in them."""
    warnings: list[str] = []
    return tuple(_message(entry, n, warnings) for n, entry in enumerate(entries)), tuple(warnings)


def _call(entry: object, where: str, k: int) -> ToolCall:
    body = _object(entry, where)
    function = _object(body.fields.get("function"), f"{where}[{k}].function")
    return ToolCall(body.text("id") or f"call_{k}", function.require_text("name"), _arguments(function, where))


def _arguments(function: Body, where: str) -> Mapping[str, Any]:
    """An object; clients that were written for another API send it as a text."""
    value = function.fields.get("arguments")
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            raise InvalidRequest(f"The arguments in {where} are not JSON.", param="messages") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"The arguments in {where} must be an object.", param="messages")
    return value


def _tool(entry: object) -> Tool:
    tool = _object(entry, "tools")
    if tool.text("type") not in (None, "function"):
        raise InvalidRequest("A tool's 'type' is 'function'.", param="tools")
    function = _object(tool.fields.get("function"), "tools")
    return Tool(
        name=function.require_text("name"),
        description=function.text("description") or "",
        parameters=function.mapping("parameters"),
    )


def _object(entry: object, where: str) -> Body:
    if not isinstance(entry, dict):
        raise InvalidRequest(f"{where} must hold objects.", param=where.partition("[")[0])
    return Body(entry)
