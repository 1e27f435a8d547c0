"""``/v1/messages``: the request on the wire, and what it is in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from madang.chat import ContextPolicy
from madang.core.constraint import Constraint, JsonSchema
from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool, ToolCall
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.server.wire import Refused, WireObject, WireRequest

_IGNORED = {
    "speed": "answers are as quick as this machine is",
    "cache_control": "what was computed is kept as long as memory lasts",
    "user_profile_id": "requests are not told apart by user",
    "workspace_id": "there is one workspace",
}

Blocks = Sequence[Mapping[str, Any]]


class WireTurn(WireObject):
    """One turn; its content is text, or blocks of several kinds."""

    role: str
    content: str | list[dict[str, Any]]


class WireClientTool(WireObject):
    """A tool of the client; those of Anthropic's servers have other types and are refused."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class WireToolChoice(WireObject):
    """Whether tools are to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class WireThinking(WireObject):
    """Whether the model thinks first; how much is the model's to say."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None


class WireOutputFormat(WireObject):
    """A schema that the answer is held to."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class WireOutputConfig(WireObject):
    """What the answer must look like. ``effort`` changes nothing here."""

    format: WireOutputFormat | None = None


class CountRequest(WireRequest):
    """What the number of tokens of a prompt depends on."""

    model: str
    messages: list[WireTurn] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[WireClientTool] | None = None
    tool_choice: WireToolChoice | None = None
    thinking: WireThinking | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {
        **_IGNORED,
        "output_config": "the form of the answer is no part of the prompt",
    }

    def core_request(self) -> Request:
        """Raises InvalidRequest for what makes no sense."""
        return Request(
            messages=core_messages(self.system, self.messages),
            tools=tuple(_tool(tool, f"tools.{i}") for i, tool in enumerate(self.tools or ())),
            tool_choice=self._tool_choice(),
            reasoning=self._reasoning(),
        )

    def _tool_choice(self) -> str:
        choice = self.tool_choice
        if choice is None:
            return "auto"
        if choice.type == "tool":
            if choice.name is None:
                raise InvalidRequest("tool_choice.name is missing.", param="tool_choice.name")
            return choice.name
        return "required" if choice.type == "any" else choice.type

    def _reasoning(self) -> bool | None:
        """ "adaptive" leaves it to the model."""
        if self.thinking is None or self.thinking.type == "adaptive":
            return None
        return self.thinking.type == "enabled"


class MessagesRequest(CountRequest):
    """The body."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    output_config: WireOutputConfig | None = None
    context_overflow: ContextPolicy | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {
        **_IGNORED,
        "metadata": "requests are not told apart by user",
        "service_tier": "there is one queue",
        "inference_geo": "answers are computed on this machine",
        "diagnostics": "the madang object says what was found in the cache",
    }
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "container": Refused("there are no containers here"),
        "mcp_servers": Refused("this server calls no others", harmless=([],)),
        "context_management": Refused("a conversation is not rewritten; see context_overflow"),
    }

    def core_request(self) -> Request:
        """Raises InvalidRequest for what makes no sense."""
        prompt = super().core_request()
        return Request(
            messages=prompt.messages,
            tools=prompt.tools,
            tool_choice=prompt.tool_choice,
            reasoning=prompt.reasoning,
            sampling=SamplingParams(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
            constraint=self._constraint(),
        )

    def warnings(self) -> list[str]:
        """What has no effect. Raises InvalidRequest for what is refused."""
        warnings = self.ignored()
        if self.thinking is not None and self.thinking.budget_tokens is not None:
            warnings.append("thinking.budget_tokens is ignored: the model says how much it thinks.")
        if self.output_config is not None and "effort" in (self.output_config.model_extra or {}):
            warnings.append("output_config.effort is ignored: models here have no such switch.")
        return warnings

    @property
    def takes_one_call(self) -> bool:
        """Whether only the first call of an answer is wanted."""
        return self.tool_choice is not None and self.tool_choice.disable_parallel_tool_use is True

    def _constraint(self) -> Constraint | None:
        given = None if self.output_config is None else self.output_config.format
        return None if given is None else JsonSchema(given.json_schema)


def core_messages(system: str | Blocks | None, turns: Sequence[WireTurn]) -> tuple[Message, ...]:
    """The conversation; results of tools become messages of their own. Raises InvalidRequest with the place."""
    messages = [Message("system", _text(system, "system"))] if system else []
    names: dict[str, str] = {}
    for i, turn in enumerate(turns):
        place = f"messages.{i}"
        match turn.role:
            case "user":
                messages += _user(turn.content, f"{place}.content", names)
            case "assistant":
                message = _assistant(turn.content, f"{place}.content")
                names.update((call.id, call.name) for call in message.tool_calls)
                messages.append(message)
            case "system":
                messages.append(Message("system", _text(turn.content, f"{place}.content")))
            case _:
                raise InvalidRequest(
                    f"{place}.role is '{turn.role}', but must be user or assistant.", param=f"{place}.role"
                )
    return tuple(messages)


def _user(content: str | Blocks, place: str, names: Mapping[str, str]) -> list[Message]:
    """Text and results in their order; neighbouring texts are one message."""
    if isinstance(content, str):
        return [Message("user", content)]
    messages: list[Message] = []
    texts: list[str] = []
    for i, block in enumerate(content):
        if block.get("type") != "tool_result":
            texts.append(_text([block], f"{place}.{i}"))
            continue
        if texts:
            messages.append(Message("user", "".join(texts)))
            texts = []
        call_id = _string(block, "tool_use_id", f"{place}.{i}")
        result = _text(block.get("content") or "", f"{place}.{i}.content")
        messages.append(Message("tool", result, tool_call_id=call_id, name=names.get(call_id)))
    if texts or not messages:
        messages.append(Message("user", "".join(texts)))
    return messages


def _assistant(content: str | Blocks, place: str) -> Message:
    if isinstance(content, str):
        return Message("assistant", content)
    texts: list[str] = []
    calls: list[ToolCall] = []
    for i, block in enumerate(content):
        match block.get("type"):
            case "thinking" | "redacted_thinking":
                continue  # templates leave earlier reasoning out, too
            case "tool_use":
                arguments = block.get("input") or {}
                if not isinstance(arguments, dict):
                    raise InvalidRequest(f"{place}.{i}.input must be an object.", param=f"{place}.{i}.input")
                call_id, name = (_string(block, key, f"{place}.{i}") for key in ("id", "name"))
                calls.append(ToolCall(call_id, name, arguments))
            case _:
                texts.append(_text([block], f"{place}.{i}"))
    return Message("assistant", "".join(texts), tool_calls=tuple(calls))


def _text(content: str | Blocks, place: str) -> str:
    if isinstance(content, str):
        return content
    return "".join(_string(_of_text(block, place), "text", place) for block in content)


def _of_text(block: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    if not isinstance(block, dict) or block.get("type") != "text":
        kind = block.get("type") if isinstance(block, dict) else None
        raise InvalidRequest(
            f"{place} is of the type {kind!r}, but the models that run here read text only.", param=place
        )
    return block


def _string(block: Mapping[str, Any], key: str, place: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"{place}.{key} must be text.", param=f"{place}.{key}")
    return value


def _tool(tool: WireClientTool, place: str) -> Tool:
    if tool.type not in (None, "custom"):
        raise InvalidRequest(
            f"{place} is of the type '{tool.type}', but only tools of the client can be called here.",
            param=f"{place}.type",
        )
    return Tool(tool.name, tool.description or "", tool.input_schema or {})
