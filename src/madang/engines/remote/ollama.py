"""Ollama's own API, which says more than the one of OpenAI that it speaks as well: requests out, NDJSON in."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from madang.core.constraint import JsonSchema
from madang.core.engine import Embeddings
from madang.core.messages import Message, Tool, ToolCall
from madang.core.request import Request
from madang.core.sampling import DRAWING
from madang.engines.remote.answer import (
    Piece,
    arguments_of,
    count_of,
    logprobs_of,
    object_of,
    objects_of,
    refuse,
    text_of,
)
from madang.engines.remote.connection import Server
from madang.engines.remote.openai import checked_vectors


@dataclass(frozen=True, slots=True)
class OllamaApi:
    """A model of an Ollama server."""

    server: Server

    def context_tokens(self) -> int | None:
        """What the model was trained for; the server's own limit may be lower, unless a request sets one."""
        facts = object_of(self.server.post("/api/show", {"model": self.server.model}).get("model_info"))
        lengths = (count_of(value) for key, value in facts.items() if key.endswith(".context_length"))
        return next((tokens for tokens in lengths if tokens), None)

    def pieces(self, request: Request, seed: int) -> Generator[Piece]:
        """Send the request. Raises InvalidRequest for what cannot be said, and what Server raises."""
        numbers = count()
        path = "/api/chat" if request.prompt is None else "/api/generate"
        for line in self.server.lines(path, self.body(request, seed)):
            if not line:
                continue
            record = self.server.record(line)
            if "error" in record:
                raise self.server.failure(500, record)
            yield _piece(record, numbers)

    def body(self, request: Request, seed: int) -> dict[str, Any]:
        """The request as JSON. Raises InvalidRequest naming the field that has no place in it."""
        self._refuse(request)
        body: dict[str, Any] = {"model": self.server.model, "stream": True, "options": _options(request, seed)}
        if request.sampling.logprobs is not None:
            body["logprobs"], body["top_logprobs"] = True, request.sampling.logprobs
        if isinstance(request.constraint, JsonSchema):
            body["format"] = dict(request.constraint.schema) or "json"
        if request.reasoning is not None:
            body["think"] = request.reasoning
        if request.prompt is not None:
            body["prompt"], body["raw"] = request.prompt, True
        else:
            body["messages"] = _messages(request.messages)
            if request.tools and request.tool_choice != "none":
                body["tools"] = [_tool(tool) for tool in request.tools]
        return body

    def embed(self, texts: list[str]) -> Embeddings:
        """Vectors of texts; one that is too long is refused by the server. Raises what Server raises."""
        reply = self.server.post("/api/embed", {"model": self.server.model, "input": texts, "truncate": False})
        vectors = reply.get("embeddings")
        n_tokens = count_of(reply.get("prompt_eval_count")) or 0
        return Embeddings(checked_vectors(vectors if isinstance(vectors, list) else [], len(texts)), n_tokens)

    def _refuse(self, request: Request) -> None:
        url = self.server.url
        if request.adapter is not None:
            raise refuse("adapter", url, "Make a model with the adapter in it, with 'ollama create'.")
        if request.sampling.logit_bias:
            raise refuse("logit_bias", url)
        if request.tool_choice not in ("auto", "none"):
            raise refuse("tool_choice", url, "Use tool_choice 'auto'.")
        if request.tools and request.prompt is not None and request.tool_choice != "none":
            raise refuse("tools", url, "A raw prompt has no place for tools.")
        if request.constraint is not None and not isinstance(request.constraint, JsonSchema):
            raise refuse("constraint", url, "A JSON schema is what it takes.")
        if request.max_tokens == 0:
            raise refuse("max_tokens", url, "Ask for one token or more.")


def _options(request: Request, seed: int) -> dict[str, Any]:
    sampling = request.sampling
    given = {name: getattr(sampling, name) for name in DRAWING if getattr(sampling, name) is not None}
    options: dict[str, Any] = {"seed": seed, **given}
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    if request.context_tokens is not None:
        options["num_ctx"] = request.context_tokens
    if request.stop:
        options["stop"] = list(request.stop)
    return options


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The result of a tool names the tool, where other APIs give the number of the call."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    wire: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            entry["tool_calls"] = [
                {"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls
            ]
        name = message.name or names.get(message.tool_call_id or "")
        if message.role == "tool" and name is not None:
            entry["tool_name"] = name
        wire.append(entry)
    return wire


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _piece(record: Mapping[str, Any], numbers: Iterator[int]) -> Piece:
    message = object_of(record.get("message"))
    calls = [object_of(call.get("function")) for call in objects_of(message.get("tool_calls"))]
    piece = Piece(
        text=text_of(message.get("content")) or text_of(record.get("response")),
        reasoning=text_of(message.get("thinking")) or text_of(record.get("thinking")),
        calls=[
            ToolCall(f"call_{next(numbers)}", text_of(call.get("name")), arguments_of(call.get("arguments")))
            for call in calls
        ],
        logprobs=logprobs_of(record.get("logprobs")),
    )
    if record.get("done") is True:
        piece.finish = text_of(record.get("done_reason")) or "stop"
        piece.prompt_tokens = count_of(record.get("prompt_eval_count"))
        piece.completion_tokens = count_of(record.get("eval_count"))
    return piece
