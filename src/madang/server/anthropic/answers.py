"""The answers of ``/v1/messages``: events of ours on its wire, as a stream of blocks or whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from madang.core.events import Completion, Done, Event, ReasoningDelta, TextDelta, ToolCallDelta
from madang.core.messages import ToolCall
from madang.server.event_stream import Stencil, named
from madang.server.ledger import ledger_of
from madang.server.openai.answers import new_id

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageStream:
    """Turns the events of an answer into events of this wire: blocks, each begun, filled and ended."""

    def __init__(self, model: str, warnings: Sequence[str], *, one_call: bool) -> None:
        self._model = model
        self._warnings = warnings
        self._one_call = one_call
        self._n_blocks = 0
        self._n_calls = 0
        self._open: str | None = None  # the kind of the block that is being filled, with ``_delta``
        self._delta: Stencil
        self.has_begun = False
        self.prompt_tokens = 0  # as far as known when the answer begins

    def push(self, event: Event) -> bytes:
        """What there is to tell."""
        told = b"" if self.has_begun else self._begin()
        match event:
            case TextDelta():
                told += self._fill("text", {"type": "text", "text": ""}, "text_delta", event.text)
            case ReasoningDelta():
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                told += self._fill("thinking", empty, "thinking_delta", event.text)
            case ToolCallDelta():
                self._n_calls += 1
                if not (self._one_call and self._n_calls > 1):
                    told += self._call(event.call)
            case Done():
                told += self._close()
                told += self._end(event)
        return told

    def _begin(self) -> bytes:
        self.has_begun = True
        # How much of it was in the cache, an engine says at the end; clients take the last number they are told.
        message = {**_head(self._model), "content": [], "stop_reason": None, "stop_sequence": None}
        message["usage"] = {"input_tokens": self.prompt_tokens, "output_tokens": 0}
        return _event("message_start", message=message)

    def _fill(self, kind: str, empty: dict[str, Any], delta: str, text: str) -> bytes:
        told = b""
        if self._open != kind:
            told += self._close()
            told += _event("content_block_start", index=self._n_blocks, content_block=empty)
            self._open = kind
            self._delta = Stencil(
                lambda mark: _event("content_block_delta", index=self._n_blocks, delta={"type": delta, kind: mark})
            )
        return told + self._delta.with_text(text) if text else told

    def _call(self, call: ToolCall) -> bytes:
        told = self._close()
        begun = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        filled = {"type": "input_json_delta", "partial_json": arguments}
        told += _event("content_block_start", index=self._n_blocks, content_block=begun)
        told += _event("content_block_delta", index=self._n_blocks, delta=filled)
        self._open = "tool_use"
        return told + self._close()

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._n_blocks += 1
        return _event("content_block_stop", index=self._n_blocks - 1)

    def _end(self, done: Done) -> bytes:
        ledger = ledger_of(done, self._warnings)
        last = _event("message_delta", delta=_stopped(done), usage=_usage(done), madang=ledger)
        return last + _event("message_stop")


def whole_message(model: str, completion: Completion, warnings: Sequence[str], *, one_call: bool) -> dict[str, Any]:
    """The whole answer."""
    content: list[dict[str, Any]] = []
    if completion.reasoning:
        content.append({"type": "thinking", "thinking": completion.reasoning, "signature": ""})
    if completion.text:
        content.append({"type": "text", "text": completion.text})
    for call in completion.tool_calls[: 1 if one_call else None]:
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)})
    done = completion.done
    facts = {"content": content, **_stopped(done), "usage": _usage(done), "madang": ledger_of(done, warnings)}
    return {**_head(model), **facts}


def _head(model: str) -> dict[str, Any]:
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": model}


def _event(name: str, **fields: Any) -> bytes:
    return named(name, {"type": name, **fields})


def _stopped(done: Done) -> dict[str, Any]:
    reason = "stop_sequence" if done.stop_text is not None else _STOP_REASONS[done.finish_reason]
    return {"stop_reason": reason, "stop_sequence": done.stop_text}


def _usage(done: Done) -> dict[str, Any]:
    """Here, tokens from the cache are not a part of the others."""
    return {
        "input_tokens": done.usage.prompt_tokens - done.usage.cached_tokens,
        "cache_read_input_tokens": done.usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": done.usage.completion_tokens,
    }
