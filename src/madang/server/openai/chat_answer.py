"""The answers of ``/v1/chat/completions``: events of ours on its wire, as chunks or whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from madang.core.events import Completion, Done, Event, ReasoningDelta, TextDelta, TokenLogprob, ToolCallDelta
from madang.server.event_stream import Stencil, data
from madang.server.openai.answers import Identity, call_of, extras_of, logprobs_of, new_id, usage_of
from madang.server.openai.chat import ChatRequest


class ChatChunks:
    """Turns the events of all answers of one request into chunks. ``facts`` is asked at the end, for the last one."""

    def __init__(
        self, chat: ChatRequest, warnings: Sequence[str], facts: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self._identity = Identity("chat.completion.chunk", chat.model, new_id("chatcmpl-"))
        self._wants_logprobs = bool(chat.logprobs)
        self._wants_usage = chat.wants_usage
        self._one_call = chat.parallel_tool_calls is False
        self._warnings = warnings
        self._facts = facts
        self._n_calls: dict[int, int] = {}  # of each answer that has begun
        self._stencils: dict[tuple[int, str], Stencil] = {}
        self._dones: list[Done] = []

    def push(self, index: int, event: Event) -> bytes:
        """Chunks that say what happened in the answer of that number."""
        if index not in self._n_calls:
            self._n_calls[index] = 0
            begin = data(self._chunk(index, {"role": "assistant", "content": ""}))
            return begin + self._told(index, event)
        return self._told(index, event)

    def end(self) -> bytes:
        """What comes after all answers."""
        if not self._wants_usage:
            return b""
        return data({**self._identity.head(), "choices": [], "usage": usage_of(self._dones)})

    def _told(self, index: int, event: Event) -> bytes:
        match event:
            case TextDelta():
                return self._text(index, "content", event.text, event.logprobs)
            case ReasoningDelta():
                return self._text(index, "reasoning_content", event.text, event.logprobs)
            case ToolCallDelta():
                n_calls = self._n_calls[index]
                self._n_calls[index] += 1
                if self._one_call and n_calls:
                    return b""
                delta = {"tool_calls": [{"index": n_calls, **call_of(event.call)}]}
                return data(self._chunk(index, delta, logprobs=event.logprobs))
            case Done():
                self._dones.append(event)
                last = self._chunk(index, {}, finish_reason=event.finish_reason)
                return data(last | extras_of(event, self._warnings, self._facts()))

    def _text(self, index: int, name: str, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        if logprobs:
            return data(self._chunk(index, {name: text}, logprobs=logprobs))
        stencil = self._stencils.get((index, name))
        if stencil is None:
            stencil = Stencil(lambda mark: data(self._chunk(index, {name: mark})))
            self._stencils[index, name] = stencil
        return stencil.with_text(text)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if self._wants_logprobs:
            choice["logprobs"] = logprobs_of(logprobs) if logprobs else None
        chunk = {**self._identity.head(), "choices": [choice]}
        return chunk | {"usage": None} if self._wants_usage else chunk


def chat_completion(
    chat: ChatRequest,
    completions: Sequence[Completion],
    warnings: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole answer. Speed and ledger are those of the first choice."""
    identity = Identity("chat.completion", chat.model, new_id("chatcmpl-"))
    return {
        **identity.head(),
        "choices": [_choice(chat, index, completion) for index, completion in enumerate(completions)],
        "usage": usage_of([completion.done for completion in completions]),
        **extras_of(completions[0].done, warnings, facts),
    }


def _choice(chat: ChatRequest, index: int, completion: Completion) -> dict[str, Any]:
    calls = completion.tool_calls[:1] if chat.parallel_tool_calls is False else completion.tool_calls
    message: dict[str, Any] = {
        "role": "assistant",
        "content": completion.text if completion.text or not calls else None,
        "refusal": None,
    }
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if calls:
        message["tool_calls"] = [call_of(call) for call in calls]
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_of(completion.logprobs) if chat.logprobs else None,
        "finish_reason": completion.done.finish_reason,
    }
