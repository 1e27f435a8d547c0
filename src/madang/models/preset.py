"""What a derived model adds to the files that it shares with others: how conversations with it begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from madang.core.messages import Message, ToolCall
from madang.core.request import Request
from madang.core.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Preset:
    """Each field holds where a request brings nothing of its own; None and empty add nothing.

    parent           the model it was made from, by its canonical reference
    messages         what every conversation begins with
    sampling         for this model; what its manifest recommends is for the files, whoever shares them
    template         as its publisher wrote it, in Go's template language; kept to be shown, never run
    license          its terms, in full
    """

    parent: str | None = None
    system: str | None = None
    messages: tuple[Message, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_tokens: int | None = None
    template: str | None = None
    license: str | None = None

    def apply(self, request: Request) -> Request:
        """The request as this model takes it. A raw prompt is taken as it is, but for sampling and limits."""
        return replace(
            request,
            messages=request.messages if request.prompt is not None else self._begun(request.messages),
            sampling=request.sampling.over(self.sampling),
            stop=request.stop or self.stop,
            max_tokens=self.max_tokens if request.max_tokens is None else request.max_tokens,
            context_tokens=self.context_tokens if request.context_tokens is None else request.context_tokens,
        )

    def over(self, inherited: Preset) -> Preset:
        """A copy that takes what it leaves open from another."""
        own = {name: getattr(self, name) or getattr(inherited, name) for name in ("messages", "stop")}
        for name in ("system", "max_tokens", "context_tokens", "template", "license"):
            value = getattr(self, name)
            own[name] = getattr(inherited, name) if value is None else value
        return replace(self, sampling=self.sampling.over(inherited.sampling), **own)

    def _begun(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """A system prompt of the request's own takes the place of ours, and stays the first message."""
        own = messages[:1] if messages and messages[0].role == "system" else ()
        system = own or (() if self.system is None else (Message("system", self.system),))
        return (*system, *self.messages, *messages[len(own) :])

    def to_record(self) -> dict[str, Any]:
        """For JSON; what adds nothing is left out."""
        record = asdict(self)
        record["sampling"] = {name: value for name, value in record["sampling"].items() if value is not None}
        return {name: value for name, value in record.items() if value not in (None, (), [], {})}


def read_preset(record: Mapping[str, Any]) -> Preset:
    """Back from JSON. Raises TypeError, ValueError, KeyError or InvalidRequest for anything else."""
    known = {field.name for field in fields(Preset)}
    if unknown := set(record) - known:
        raise ValueError(f"unknown key {sorted(unknown)[0]} in the preset")
    for name in ("parent", "system", "template", "license"):
        if not isinstance(record.get(name, ""), str):
            raise TypeError(f"{name} of the preset is not a text")
    for name in ("max_tokens", "context_tokens"):
        if not isinstance(record.get(name, 0), int):
            raise TypeError(f"{name} of the preset is not a whole number")
    messages = tuple(_message(entry) for entry in record.get("messages", ()))
    stop = tuple(str(text) for text in record.get("stop", ()))
    sampling = SamplingParams.from_mapping(record.get("sampling", {}))
    return Preset(**{**record, "messages": messages, "sampling": sampling, "stop": stop})


def _message(entry: Mapping[str, Any]) -> Message:
    calls = tuple(ToolCall(**call) for call in entry.get("tool_calls", ()))
    return Message(**{**entry, "tool_calls": calls})
