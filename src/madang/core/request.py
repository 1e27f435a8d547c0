"""What one generation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from madang.core.constraint import Constraint
from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool
from madang.core.sampling import SamplingParams

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256

Priority = Literal["chat", "background"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """A LoRA adapter that the engine has loaded, by name, and the factor on what it adds."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """Either ``messages`` (a chat; the engine applies the model's template) or ``prompt`` (raw text), never both.

    max_tokens   upper limit of generated tokens; None runs until the model stops or the context is full; 0 only reads
                 the prompt
    stop         generation ends before any of these strings; they never appear in the output
    constraint   the form that the answer must have; it begins behind the reasoning that a template opened
    tool_choice  "auto", "none" (the model is not told of the tools), "required", or the name of the one to call
    reasoning    whether a model that can think first does; None leaves it to the model's template
    adapter      the LoRA adapter to answer with
    priority     "background" work waits while a "chat" has something to compute
    context_tokens   the most tokens that prompt and answer may hold together; None is what the engine was opened with
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    tools: tuple[Tool, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None
    tool_choice: str = "auto"
    reasoning: bool | None = None
    adapter: AdapterChoice | None = None
    priority: Priority = "chat"
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (not self.messages):
            raise InvalidRequest("A request has either messages or a prompt.", param="messages")
        _check_at_least(0, self.max_tokens, "max_tokens")
        _check_at_least(1, self.context_tokens, "context_tokens")
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequest(f"{len(self.stop)} stop strings given, at most {MAX_STOP_STRINGS}.", param="stop")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_CHARACTERS:
                raise InvalidRequest(f"A stop string has 1 to {MAX_STOP_CHARACTERS} characters.", param="stop")
        if self.priority not in PRIORITIES:
            raise InvalidRequest(
                f"'{self.priority}' is not a priority; use {' or '.join(PRIORITIES)}.", param="priority"
            )
        if self.tool_choice not in {"auto", "none", "required", *(tool.name for tool in self.tools)}:
            raise InvalidRequest(f"tool_choice '{self.tool_choice}' is not among the tools.", param="tool_choice")
        if self.tool_choice == "required" and not self.tools:
            raise InvalidRequest("tool_choice is 'required', but there are no tools.", param="tool_choice")
        if self.constraint is not None and self.tool_choice not in ("auto", "none"):
            raise InvalidRequest("An answer cannot be a tool call and follow a constraint.", param="constraint")


def _check_at_least(least: int, value: int | None, name: str) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise InvalidRequest(f"{name} is {value!r}, but must be a whole number of {least} or more.", param=name)
