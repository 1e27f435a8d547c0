"""Conversations and tools on OpenAI's wire, and what they are in ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from madang.core.constraint import Constraint, JsonSchema
from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Role, Tool, ToolCall
from madang.server.wire import WireObject

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class WireFunctionCall(WireObject):
    """Name, and arguments as a text of JSON."""

    name: str
    arguments: str = ""


class WireToolCall(WireObject):
    """A call that an earlier answer made."""

    id: str = ""
    type: str = "function"
    function: WireFunctionCall


class WireMessage(WireObject):
    """One turn."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[WireToolCall] | None = None
    tool_call_id: str | None = None


class WireFunction(WireObject):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class WireTool(WireObject):
    """A tool; only functions are tools here."""

    type: str
    function: WireFunction | None = None


class WireJsonSchema(WireObject):
    """A schema with its name. Answers are held to it whether it is called strict or not."""

    name: str = ""
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class WireResponseFormat(WireObject):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: WireJsonSchema | None = None


class WireStreamOptions(WireObject):
    """``include_obfuscation`` is for networks between strangers; there is nothing to hide the lengths from here."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


def core_messages(messages: Sequence[WireMessage]) -> tuple[Message, ...]:
    """The conversation. Raises InvalidRequest with the place of what cannot be read."""
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    return tuple(_message(message, f"messages.{i}", names) for i, message in enumerate(messages))


def _message(message: WireMessage, place: str, names: Mapping[str, str]) -> Message:
    role = ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(
            f"{place}.role is '{message.role}', but must be one of {', '.join(ROLES)}.", param=f"{place}.role"
        )
    name = message.name or names.get(message.tool_call_id or "") if role == "tool" else None
    calls = [_tool_call(call, f"{place}.tool_calls.{i}") for i, call in enumerate(message.tool_calls or ())]
    return Message(
        role,
        text_of(message.content, f"{place}.content"),
        tool_calls=tuple(calls),
        tool_call_id=message.tool_call_id if role == "tool" else None,
        name=name,
    )


def text_of(content: str | Sequence[Mapping[str, Any]] | None, place: str) -> str:
    """The text of a message's content, its parts put together. Raises InvalidRequest for a part that is no text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(_part(part, f"{place}.{i}") for i, part in enumerate(content))


_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def _part(part: Mapping[str, Any], place: str) -> str:
    kind = part.get("type")
    if kind not in _TEXT_PARTS:
        raise InvalidRequest(
            f"{place} is of the type {kind!r}, but the models that run here read text only.", param=f"{place}.type"
        )
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise InvalidRequest(f"{place} has no text.", param=place)
    return text


def _tool_call(call: WireToolCall, place: str) -> ToolCall:
    return ToolCall(call.id, call.function.name, arguments_of(call.function.arguments, f"{place}.function.arguments"))


def arguments_of(text: str, place: str) -> Mapping[str, Any]:
    """Arguments of a call; none are an empty object. Raises InvalidRequest for what is no JSON object."""
    try:
        arguments = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"{place} must be the text of a JSON object.", param=place)
    return arguments


def core_tools(tools: Sequence[WireTool]) -> tuple[Tool, ...]:
    """Raises InvalidRequest for a tool that is no function: those of OpenAI's servers are not here."""
    return tuple(_tool(tool, f"tools.{i}") for i, tool in enumerate(tools))


def _tool(tool: WireTool, place: str) -> Tool:
    if tool.type != "function":
        raise InvalidRequest(
            f"{place} is of the type '{tool.type}', but only functions can be called here.", param=f"{place}.type"
        )
    if tool.function is None:
        raise InvalidRequest(f"{place}.function is missing.", param=f"{place}.function")
    function = tool.function
    return Tool(function.name, function.description or "", function.parameters or {})


def core_tool_choice(choice: str | Mapping[str, Any] | None) -> str:
    """ "auto", "none", "required", or the name of a function. Raises InvalidRequest for what is none of these."""
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise InvalidRequest(
                f"tool_choice is '{choice}', but must be auto, none, required, or name a function.", param="tool_choice"
            )
        return choice
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise InvalidRequest("tool_choice must name a function, or be auto, none or required.", param="tool_choice")
    if name in ("auto", "none", "required"):
        raise InvalidRequest(f"No function can be called '{name}'.", param="tool_choice")
    return name


def core_constraint(kind: str, schema: Mapping[str, Any] | None, place: str) -> Constraint | None:
    """The form of the answer. Raises InvalidRequest when it is a schema and there is none."""
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonSchema({"type": "object"})
    if schema is None:
        raise InvalidRequest(f"{place} is missing.", param=place)
    return JsonSchema(schema)
