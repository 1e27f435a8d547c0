"""The answers of ``/v1/responses``: items, built from our events; the stream says how they grow."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from madang.core.events import Done, Event, ReasoningDelta, TextDelta, TokenLogprob, ToolCallDelta
from madang.core.messages import ToolCall
from madang.server.failures import sentence_of
from madang.server.openai.answers import extras_of, logprobs_of, new_id
from madang.server.openai.response_request import ResponseRequest

Told = list[dict[str, Any]]


class ResponseBuilder:
    """Folds events into ``response``, and tells of each step what its clients want to hear."""

    def __init__(self, body: ResponseRequest, warnings: Sequence[str]) -> None:
        self.response = _empty_response(body)
        self._output: list[dict[str, Any]] = self.response["output"]
        self._body = body
        self._warnings = warnings
        self._n_told = 0
        self._part: dict[str, Any] | None = None  # what text is added to, in the last item
        self._n_calls = 0

    def begin(self) -> Told:
        """What comes before the answer."""
        return [self._tell(kind, response=self.response) for kind in ("response.created", "response.in_progress")]

    def push(self, event: Event) -> Told:
        """What happened."""
        match event:
            case TextDelta():
                return self._text(event.text, event.logprobs)
            case ReasoningDelta():
                return self._reason(event.text)
            case ToolCallDelta():
                self._n_calls += 1
                too_many = self._body.parallel_tool_calls is False and self._n_calls > 1
                return [] if too_many else self._close() + self._call(event.call)
            case Done():
                return self._close() + self._end(event)

    def fail(self, error: BaseException) -> Told:
        """The answer ends here, with what it has."""
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": sentence_of(error)}
        return [self._tell("response.failed", response=self.response)]

    def _text(self, text: str, logprobs: Sequence[TokenLogprob]) -> Told:
        told: Told = []
        if self._part is None or self._part["type"] != "output_text":
            told += self._close()
            told += self._add({"id": new_id("msg_"), "type": "message", "role": "assistant", "content": []})
            told += self._add_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        part = self._current()
        likely = logprobs_of(logprobs)["content"] if self._body.wants_logprobs else []
        part["text"] += text
        part["logprobs"] += likely
        return [*told, self._tell_of_part("response.output_text.delta", delta=text, logprobs=likely)]

    def _reason(self, text: str) -> Told:
        told: Told = []
        if self._part is None or self._part["type"] != "reasoning_text":
            told += self._close()
            told += self._add({"id": new_id("rs_"), "type": "reasoning", "summary": [], "content": []})
            told += self._add_part({"type": "reasoning_text", "text": ""})
        self._current()["text"] += text
        return [*told, self._tell_of_part("response.reasoning_text.delta", delta=text)]

    def _call(self, call: ToolCall) -> Told:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        told = self._add(
            {"id": new_id("fc_"), "type": "function_call", "call_id": call.id, "name": call.name, "arguments": ""}
        )
        item = self._output[-1]
        place = {"item_id": item["id"], "output_index": len(self._output) - 1}
        told.append(self._tell("response.function_call_arguments.delta", **place, delta=arguments))
        item["arguments"] = arguments
        told.append(self._tell("response.function_call_arguments.done", **place, name=call.name, arguments=arguments))
        return told + self._finish_item()

    def _add(self, item: dict[str, Any]) -> Told:
        item["status"] = "in_progress"
        self._output.append(item)
        return [self._tell("response.output_item.added", output_index=len(self._output) - 1, item=item)]

    def _add_part(self, part: dict[str, Any]) -> Told:
        self._output[-1]["content"].append(part)
        self._part = part
        return [self._tell_of_part("response.content_part.added", part=part)]

    def _close(self) -> Told:
        """End the part and the item that text is added to, if there is one."""
        part, told = self._part, []
        if part is None:
            return []
        if part["type"] == "output_text":
            told.append(self._tell_of_part("response.output_text.done", text=part["text"], logprobs=part["logprobs"]))
        else:
            told.append(self._tell_of_part("response.reasoning_text.done", text=part["text"]))
        told.append(self._tell_of_part("response.content_part.done", part=part))
        self._part = None
        return told + self._finish_item()

    def _finish_item(self) -> Told:
        item = self._output[-1]
        item["status"] = "completed"
        return [self._tell("response.output_item.done", output_index=len(self._output) - 1, item=item)]

    def _end(self, done: Done) -> Told:
        is_cut = done.finish_reason == "length"
        self.response["status"] = "incomplete" if is_cut else "completed"
        if is_cut:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
            if self._output:
                self._output[-1]["status"] = "incomplete"
        else:
            self.response["completed_at"] = int(time.time())
        self.response["usage"] = _usage(done)
        self.response |= extras_of(done, self._warnings)
        return [self._tell(f"response.{self.response['status']}", response=self.response)]

    def _current(self) -> dict[str, Any]:
        assert self._part is not None  # the callers have just opened it
        return self._part

    def _tell_of_part(self, kind: str, **fields: Any) -> dict[str, Any]:
        place = {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1, "content_index": 0}
        return self._tell(kind, **place, **fields)

    def _tell(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One event; its parts go on growing, so it holds a copy of what it shows."""
        self._n_told += 1
        shown = {key: json.loads(json.dumps(value)) if _grows(value) else value for key, value in fields.items()}
        return {"type": kind, "sequence_number": self._n_told - 1, **shown}


def _grows(value: object) -> bool:
    return isinstance(value, dict | list)


def _empty_response(body: ResponseRequest) -> dict[str, Any]:
    """What is known before the answer; the settings are told as they were sent."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": body.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None if body.reasoning is None else body.reasoning.effort, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": {"format": _format(body)},
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
    }


def _format(body: ResponseRequest) -> dict[str, Any]:
    given = None if body.text is None else body.text.format
    return {"type": "text"} if given is None else given.model_dump(by_alias=True, exclude_none=True)


def _usage(done: Done) -> dict[str, Any]:
    usage = done.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
