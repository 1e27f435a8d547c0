"""The forms in which training data is written, and what each makes of a row.

    chat        {"messages": [{"role", "content"}, …]}, perhaps with "tools"     as in the OpenAI API
    sharegpt    {"conversations": [{"from": "human", "value"}, …]}, perhaps with "system"
    alpaca      {"instruction", "input", "output"}, perhaps with "system"
    completion  {"prompt", "completion" or "response"}, both texts or both lists of messages
    qa          {"question", "answer"}, {"Q", "A"}, {"질문", "답변"}
    text        {"text"}, or paragraphs of a plain file

Names of columns are read without regard to case. A prompt becomes the user's turn and its completion the answer: what
is tuned here is run through its chat template, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.messages import ROLES, Message, Role, Tool, ToolCall, well_formed
from madang.training.examples.example import Example

_SPEAKERS: Final[Mapping[str, Role]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "observation": "tool",
}
_QUESTIONS: Final = ("question", "q", "질문")
_ANSWERS: Final = ("answer", "a", "답변", "답")
_COMPLETIONS: Final = ("completion", "response")


class Unusable(Exception):
    """Why a row is no example; its text is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a row. ``fits`` looks at names of columns, ``read`` raises Unusable."""

    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Example]


def example_of(row: Any, form: str) -> Example:
    """The example in a row. Raises Unusable when it has none that can be learnt from."""
    if not isinstance(row, Mapping):
        raise Unusable("it is no JSON object")
    fields = _folded(row)
    example = FORMS[form].read(fields)
    if example.text is None:
        _check_turns(example.messages)
    elif not example.text.strip():
        raise Unusable("the text is empty")
    return example


def form_of(row: Any, name: str) -> str:
    """The form that the row of a file called ``name`` is written in. Raises InvalidRequest with what it has instead."""
    columns = _folded(row) if isinstance(row, Mapping) else {}
    for form, known in FORMS.items():
        if known.fits(columns):
            return form
    found = ", ".join(f"'{column}'" for column in list(columns)[:8]) or "no names"
    raise InvalidRequest(
        f"{name} is in no form that madang reads: its first row has {found}.",
        param="data",
        hint="Rows have messages, conversations, instruction and output, prompt and completion, question and answer,"
        " or text.",
    )


def check_form(form: str) -> str:
    """The name of a form. Raises UnknownOption."""
    if form not in FORMS:
        raise UnknownOption("form of training data", form, list(FORMS))
    return form


def _folded(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key).strip().casefold(): value for key, value in row.items() if key is not None}


def _check_turns(messages: Sequence[Message]) -> None:
    if not messages:
        raise Unusable("it has no messages")
    for number, message in enumerate(messages, start=1):
        if not message.content.strip() and not message.tool_calls and message.role != "tool":
            what = {"assistant": "answer", "user": "question", "system": "system message"}[message.role]
            raise Unusable(f"the {what} in message {number} is empty")
    if not any(message.role == "assistant" for message in messages):
        raise Unusable("it has no answer")
    if messages[-1].role != "assistant":
        raise Unusable(f"its last message is of role '{messages[-1].role}', but has to be an answer")


def _text(value: Any, name: str) -> str:
    """A text, or the texts of a list of parts as in the OpenAI API."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, Sequence):
        parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if all(isinstance(part, str) for part in parts):
            return well_formed("".join(parts))
    raise Unusable(f"'{name}' is {_kind(value)}, but has to be a text")


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    names = {bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list"}
    return names.get(type(value), "no text")


def _message(turn: Any, number: int, role_key: str, text_key: str) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable(f"message {number} is no object")
    if "weight" in turn and turn["weight"] != 1:
        raise Unusable(f"message {number} has a weight, which madang does not take into account")
    speaker = turn.get(role_key)
    role = _SPEAKERS.get(speaker.strip().casefold()) if isinstance(speaker, str) else None
    if role is None:
        raise Unusable(f"message {number} has the role {speaker!r}, but roles are {', '.join(ROLES)}")
    calls = tuple(_call(call, number) for call in turn.get("tool_calls") or ())
    content = turn.get(text_key)
    text = "" if content is None and calls else _text(content, f"{text_key} of message {number}")
    called, name = turn.get("tool_call_id"), turn.get("name")
    return Message(role, text, calls, called if isinstance(called, str) else None, _name(role, name))


def _name(role: Role, name: Any) -> str | None:
    return name if role == "tool" and isinstance(name, str) else None


def _call(call: Any, number: int) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Unusable(f"message {number} has a tool call without a name")
    arguments = function.get("arguments", {})
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Unusable(f"the arguments of a tool call in message {number} are no JSON object")
    return ToolCall(str(call.get("id") or ""), function["name"], arguments)


def _tool(tool: Any) -> Tool:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Unusable("a tool has no name")
    parameters = function.get("parameters") or {}
    return Tool(function["name"], str(function.get("description") or ""), parameters)


def _turns(value: Any, role_key: str, text_key: str, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise Unusable(f"'{name}' is {_kind(value)}, but has to be a list of messages")
    return tuple(_message(turn, number, role_key, text_key) for number, turn in enumerate(value, start=1))


def _system(row: Mapping[str, Any]) -> tuple[Message, ...]:
    system = row.get("system")
    return (Message("system", _text(system, "system")),) if system else ()


def _pair(row: Mapping[str, Any], asked: str, told: str) -> Example:
    question, answer = _text(row.get(asked), asked), _text(row.get(told), told)
    return Example((*_system(row), Message("user", question), Message("assistant", answer)))


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), names[0])


def _chat(row: Mapping[str, Any]) -> Example:
    tools = tuple(_tool(tool) for tool in row.get("tools") or ())
    return Example(_turns(row.get("messages"), "role", "content", "messages"), tools=tools)


def _sharegpt(row: Mapping[str, Any]) -> Example:
    turns = row.get("conversations")
    named = isinstance(turns, list) and turns and isinstance(turns[0], Mapping) and "role" in turns[0]
    keys = ("role", "content") if named else ("from", "value")
    return Example((*_system(row), *_turns(turns, *keys, "conversations")))


def _alpaca(row: Mapping[str, Any]) -> Example:
    asked, given = _text(row.get("instruction"), "instruction"), row.get("input")
    if given:
        asked += "\n\n" + _text(given, "input")
    return _pair({**row, "instruction": asked}, "instruction", "output")


def _completion(row: Mapping[str, Any]) -> Example:
    told = _first(row, _COMPLETIONS)
    if not isinstance(row.get("prompt"), list):
        return _pair(row, "prompt", told)
    prompt = _turns(row["prompt"], "role", "content", "prompt")
    return Example((*prompt, *_turns(row.get(told), "role", "content", told)))


def _qa(row: Mapping[str, Any]) -> Example:
    return _pair(row, _first(row, _QUESTIONS), _first(row, _ANSWERS))


def _plain(row: Mapping[str, Any]) -> Example:
    return Example(text=_text(row.get("text"), "text"))


FORMS: Final[Mapping[str, Form]] = {
    "chat": Form(lambda row: "messages" in row, _chat),
    "sharegpt": Form(lambda row: "conversations" in row, _sharegpt),
    "alpaca": Form(lambda row: "instruction" in row and "output" in row, _alpaca),
    "completion": Form(lambda row: "prompt" in row and any(name in row for name in _COMPLETIONS), _completion),
    "qa": Form(lambda row: any(n in row for n in _QUESTIONS) and any(n in row for n in _ANSWERS), _qa),
    "text": Form(lambda row: "text" in row, _plain),
}
