"""``/v1/responses``: the request on the wire, and what it is in ours. Nothing is kept between requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from madang.chat import ContextPolicy
from madang.core.constraint import Constraint
from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool, ToolCall
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.server.openai.chat import IGNORED_EVERYWHERE, MODERATION, Effort, Tier, priority_of, reasoning_of
from madang.server.openai.messages import ROLES, arguments_of, core_constraint, core_tool_choice, text_of
from madang.server.wire import Refused, WireObject, WireRequest

LOGPROBS = "message.output_text.logprobs"
_STATELESS = "answers are not kept; send the whole conversation as input"


class WireTextFormat(WireObject):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class WireText(WireObject):
    """How the answer is written. ``verbosity`` changes nothing here."""

    format: WireTextFormat | None = None


class WireReasoning(WireObject):
    """Whether the model thinks first. ``summary`` changes nothing here: the reasoning itself is given."""

    effort: Effort | None = None


class WireFlatTool(WireObject):
    """A function that may be called; in this API its fields lie beside its type."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ResponseRequest(WireRequest):
    """The body."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: WireText | None = None
    reasoning: WireReasoning | None = None
    tools: list[WireFlatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    service_tier: Tier | None = None
    truncation: Literal["auto", "disabled"] | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {
        **IGNORED_EVERYWHERE,
        "access_programs": "there are no such programs here",
        "image": "models here read text only",
        "max_tool_calls": "it counts the calls of built-in tools, of which there are none",
        "stream_options": "there is nobody to hide the lengths of pieces from",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "previous_response_id": Refused(_STATELESS),
        "conversation": Refused(_STATELESS),
        "prompt": Refused("there are no stored prompts; send instructions and input"),
        "background": Refused("answers are not kept, so nobody could fetch it", harmless=(False,)),
        "context_management": Refused("a conversation is not rewritten; see truncation", harmless=([],)),
        "moderation": MODERATION,
    }

    def core_request(self) -> Request:
        """Raises InvalidRequest for what makes no sense."""
        messages = core_input(self.input)
        if self.instructions:
            messages = (Message("system", self.instructions), *messages)
        return Request(
            messages=messages,
            tools=tuple(_tool(tool, f"tools.{i}") for i, tool in enumerate(self.tools or ())),
            sampling=SamplingParams(temperature=self.temperature, top_p=self.top_p, logprobs=self._n_top()),
            max_tokens=self.max_output_tokens,
            constraint=self._constraint(),
            tool_choice=core_tool_choice(self.tool_choice),
            reasoning=None if self.reasoning is None else reasoning_of(self.reasoning.effort),
            priority=priority_of(self.service_tier),
        )

    def warnings(self) -> list[str]:
        """What has no effect. Raises InvalidRequest for what is refused."""
        warnings = self.ignored()
        warnings += [f"include '{name}' is ignored: there is no such thing here." for name in self._unknown_includes()]
        if self.text is not None and (self.text.model_extra or {}).get("verbosity") is not None:
            warnings.append("text.verbosity is ignored: models here have no such switch; ask for it in a message.")
        if self.reasoning is not None and (self.reasoning.model_extra or {}).get("summary") is not None:
            warnings.append("reasoning.summary is ignored: the reasoning itself is in the answer.")
        return warnings

    @property
    def overflow(self) -> ContextPolicy:
        """What happens to a conversation that is too long."""
        return "drop_oldest" if self.truncation == "auto" else "strict"

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer tells how likely its tokens were."""
        return LOGPROBS in (self.include or ())

    def _unknown_includes(self) -> list[str]:
        return [name for name in self.include or () if name != LOGPROBS]

    def _n_top(self) -> int | None:
        if not self.wants_logprobs:
            if self.top_logprobs:
                raise InvalidRequest(f"top_logprobs needs '{LOGPROBS}' in include.", param="top_logprobs")
            return None
        return self.top_logprobs or 0

    def _constraint(self) -> Constraint | None:
        given = None if self.text is None else self.text.format
        return None if given is None else core_constraint(given.type, given.json_schema, "text.format.schema")


def core_input(given: str | Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. Raises InvalidRequest with the place of what cannot be read."""
    if isinstance(given, str):
        return (Message("user", given),)
    if not given:
        raise InvalidRequest("input is empty.", param="input")
    messages: list[Message] = []
    names: dict[str, str] = {}
    for i, item in enumerate(given):
        place = f"input.{i}"
        match item.get("type", "message"):
            case "message":
                messages.append(_message(item, place))
            case "function_call":
                call = _call(item, place)
                names[call.id] = call.name
                _add_call(messages, call)
            case "function_call_output":
                call_id = _string(item, "call_id", place)
                output = text_of(item.get("output"), f"{place}.output")
                messages.append(Message("tool", output, tool_call_id=call_id, name=names.get(call_id)))
            case "reasoning":
                continue  # templates leave earlier reasoning out, too
            case kind:
                raise InvalidRequest(
                    f"{place} is of the type {kind!r}, which is not known here.", param=f"{place}.type"
                )
    return tuple(messages)


def _message(item: Mapping[str, Any], place: str) -> Message:
    role = ROLES.get(_string(item, "role", place))
    if role is None or role == "tool":
        raise InvalidRequest(
            f"{place}.role is '{item['role']}', but must be user, assistant, system or developer.",
            param=f"{place}.role",
        )
    content = item.get("content")
    if not isinstance(content, str | list):
        raise InvalidRequest(f"{place}.content must be text or a list of parts.", param=f"{place}.content")
    return Message(role, text_of(content, f"{place}.content"))


def _call(item: Mapping[str, Any], place: str) -> ToolCall:
    arguments = arguments_of(_string(item, "arguments", place), f"{place}.arguments")
    return ToolCall(_string(item, "call_id", place), _string(item, "name", place), arguments)


def _add_call(messages: list[Message], call: ToolCall) -> None:
    """To the turn that it belongs to: items of one answer come one after the other."""
    if messages and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
    else:
        messages.append(Message("assistant", "", tool_calls=(call,)))


def _tool(tool: WireFlatTool, place: str) -> Tool:
    if tool.type != "function":
        raise InvalidRequest(
            f"{place} is of the type '{tool.type}', but only functions can be called here.", param=f"{place}.type"
        )
    if tool.name is None:
        raise InvalidRequest(f"{place}.name is missing.", param=f"{place}.name")
    return Tool(tool.name, tool.description or "", tool.parameters or {})


def _string(item: Mapping[str, Any], key: str, place: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{place}.{key} must be text.", param=f"{place}.{key}")
    return value
