"""What one generation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from madang.core.errors import InvalidRequest
from madang.core.messages import Message, Tool
from madang.core.sampling import SamplingParams

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """Either ``messages`` (a chat; the engine applies the model's template) or ``prompt`` (raw text), never both.

    max_tokens   upper limit of generated tokens; None runs until the model stops or the context is full; 0 only reads
                 the prompt
    stop         generation ends before any of these strings; they never appear in the output
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    tools: tuple[Tool, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.prompt is None) == (not self.messages):
            raise InvalidRequest("A request has either messages or a prompt.", param="messages")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise InvalidRequest(f"max_tokens is {self.max_tokens}, but must be 0 or more.", param="max_tokens")
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequest(f"{len(self.stop)} stop strings given, at most {MAX_STOP_STRINGS}.", param="stop")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_CHARACTERS:
                raise InvalidRequest(f"A stop string has 1 to {MAX_STOP_CHARACTERS} characters.", param="stop")
