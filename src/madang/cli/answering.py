"""One answer: from the engine's stream to the screen, or to JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from madang.cli.console import data, data_json, dim_note, note
from madang.core import (
    AdapterChoice,
    Completion,
    Constraint,
    Done,
    Engine,
    Message,
    ReasoningDelta,
    Request,
    SamplingParams,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    collect,
    streaming,
)
from madang.core.units import format_duration

if TYPE_CHECKING:
    from madang.models import Preset


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What the command line said about answers, the same for every turn of a chat.

    preset   what the model adds to it, if it was made from another one
    """

    system: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    constraint: Constraint | None = None
    reasoning: bool | None = None
    adapter: AdapterChoice | None = None
    preset: Preset | None = None

    def chat_request(self, messages: list[Message]) -> Request:
        """A request for the next turn of this conversation, the system message before it."""
        system = [] if self.system is None else [Message("system", self.system)]
        return self._request(messages=(*system, *messages))

    def raw_request(self, prompt: str) -> Request:
        """A request that goes to the model as it is, without a template."""
        return self._request(prompt=prompt)

    def _request(self, **prompt: Any) -> Request:
        request = Request(
            **prompt,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            constraint=self.constraint,
            reasoning=self.reasoning,
            adapter=self.adapter,
        )
        return request if self.preset is None else self.preset.apply(request)


def answer_once(engine: Engine, request: Request, *, as_json: bool, stats: bool) -> Done:
    """Print one answer, text as it comes or the whole of it with its measurements as JSON; its last event."""
    if as_json:
        with streaming(engine, request) as events:
            completion = collect(events)
        data_json(answer_document(engine, request, completion))
        return completion.done
    done = show_stream(engine, request, [])
    explain_end(done)
    if stats:
        dim_note(stats_line(done))
    return done


def show_stream(engine: Engine, request: Request, shown: list[str]) -> Done:
    """Print the answer as it comes and return the last event; ``shown`` collects it, also when it is interrupted.

    Reasoning is a faint note; a tool call is a line of JSON in the answer.
    """
    is_reasoning = False
    with streaming(engine, request) as events:
        try:
            for event in events:
                if is_reasoning and not isinstance(event, ReasoningDelta):
                    is_reasoning = False
                    note("")
                match event:
                    case ReasoningDelta():
                        is_reasoning = True
                        dim_note(event.text, end="")
                    case TextDelta():
                        _show(event.text, shown)
                    case ToolCallDelta():
                        _show(("\n" if _is_in_line(shown) else "") + call_line(event.call) + "\n", shown)
                    case Done():
                        return event
        finally:
            if is_reasoning:
                note("")
            if _is_in_line(shown):
                data("")
    raise AssertionError("unreachable: a checked stream ends with Done")


def _show(text: str, shown: list[str]) -> None:
    shown.append(text)
    data(text, end="")


def _is_in_line(shown: list[str]) -> bool:
    return bool(shown) and not shown[-1].endswith("\n")


def call_line(call: ToolCall) -> str:
    """A tool call in one line of JSON."""
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False, default=dict)


def explain_end(done: Done) -> None:
    """Say so when the answer was cut off or part of the conversation was dropped."""
    if done.ledger.dropped_tokens:
        note(f"{done.ledger.dropped_tokens} tokens of the conversation did not fit and were dropped.")
    if done.finish_reason != "length":
        return
    if done.ledger.free_tokens <= 0:
        note(f"The answer was cut off: the context of {done.ledger.n_ctx} tokens is full (--context sets it).")
    elif done.usage.completion_tokens > 0:  # an answer of no tokens was asked for
        note(f"The answer was cut off after {done.usage.completion_tokens} tokens (--max-tokens sets the limit).")


def stats_line(done: Done) -> str:
    """Measurements of one answer in one line, for people."""
    usage, timings, ledger = done.usage, done.timings, done.ledger
    parts = [f"prompt {usage.prompt_tokens} tokens, {usage.cached_tokens} cached{_rate(timings.prompt_tokens_per_s)}"]
    parts.append(f"answer {usage.completion_tokens} tokens{_rate(timings.decode_tokens_per_s)}")
    if timings.drafted_tokens:
        parts.append(f"{timings.accepted_tokens} of {timings.drafted_tokens} guessed tokens came true")
    parts.append(f"first token {format_duration(timings.time_to_first_token_s)}")
    parts.append(f"context {ledger.kept_tokens + ledger.generated_tokens} of {ledger.n_ctx}")
    if done.seed is not None:
        parts.append(f"seed {done.seed}")
    return " · ".join(parts)


def answer_document(engine: Engine, request: Request, completion: Completion) -> dict[str, Any]:
    """The answer for programs; ``logprobs`` is there only when it was asked for. Rates not measured are null."""
    done = completion.done
    document: dict[str, Any] = {
        "model": engine.info.model,
        "engine": engine.info.engine,
        "text": completion.text,
        "reasoning": completion.reasoning,
        "tool_calls": [asdict(call) for call in completion.tool_calls],
        "finish_reason": done.finish_reason,
        "usage": asdict(done.usage),
        "timings": {
            "load_s": done.timings.load_s,
            "time_to_first_token_s": done.timings.time_to_first_token_s,
            "prompt_tokens_per_s": done.timings.prompt_tokens_per_s,
            "decode_tokens_per_s": done.timings.decode_tokens_per_s,
            "drafted_tokens": done.timings.drafted_tokens,
            "accepted_tokens": done.timings.accepted_tokens,
        },
        "ledger": {**asdict(done.ledger), "free_tokens": done.ledger.free_tokens},
    }
    if request.sampling.logprobs is not None:
        document["logprobs"] = [asdict(logprob) for logprob in completion.logprobs]
    return document


def _rate(tokens_per_s: float | None) -> str:
    return "" if tokens_per_s is None else f" at {tokens_per_s:.0f}/s"
