"""OpenAI's API, and what vLLM, LM Studio and LocalAI have beyond it: requests out, stream events in.

What the plain API has no word for is refused, because servers disagree on what they do with a word that they do not
know. A limit goes out as ``max_tokens``, which all of them read but for OpenAI's own reasoning models.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from madang.core.constraint import JsonSchema, Regex
from madang.core.engine import Embeddings
from madang.core.errors import EngineError, EngineUnavailable, InvalidRequest
from madang.core.events import TokenLogprob
from madang.core.messages import Message, Tool, ToolCall
from madang.core.request import Request
from madang.engines.remote.answer import (
    UNKNOWN_TOKEN,
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

# Sampling beyond OpenAI's, by the names that each kind of server gives it.
_MORE_SAMPLING: Final[Mapping[str, Mapping[str, str]]] = {
    "vllm": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"},
    "lmstudio": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"},
    "localai": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"},
}
_SAMPLING: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_CONTEXT_KEYS: Final = (
    "max_model_len",
    "context_length",
    "context_window",
    "max_context_length",
    "n_ctx",
    "n_ctx_train",
)


@dataclass(frozen=True, slots=True)
class OpenAIApi:
    """A model of such a server."""

    server: Server
    kind: str

    def context_tokens(self) -> int | None:
        """What the list of models says of this one, if anything. Raises what Server raises, but for a missing list."""
        try:
            listed = objects_of(self.server.get("/models").get("data"))
        except EngineUnavailable:
            raise
        except (EngineError, InvalidRequest):
            return None  # some servers have no list
        only = listed[0] if len(listed) == 1 else {}  # such servers take any name for it
        entry = next((entry for entry in listed if entry.get("id") == self.server.model), only)
        facts = {**object_of(entry.get("meta")), **entry}
        found = (count_of(facts.get(key)) for key in _CONTEXT_KEYS)
        return next((tokens for tokens in found if tokens), None)

    def pieces(self, request: Request, seed: int) -> Generator[Piece]:
        """Send the request. Raises InvalidRequest for what cannot be said, and what Server raises."""
        is_chat = request.prompt is None
        body = self.body(request, seed)
        calls = _Calls()
        for record in self._records("/chat/completions" if is_chat else "/completions", body):
            yield _piece(record, calls, is_chat=is_chat)
        if calls.open:
            yield Piece(calls=calls.take())

    def body(self, request: Request, seed: int) -> dict[str, Any]:
        """The request as JSON. Raises InvalidRequest naming the field that has no place in it."""
        self._refuse(request)
        body: dict[str, Any] = {
            "model": self.server.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": seed,
        }
        if self.kind == "vllm":  # counts are known also when the answer is left early
            body["stream_options"]["continuous_usage_stats"] = True
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.stop:
            body["stop"] = list(request.stop)
        self._add_sampling(body, request)
        self._add_form(body, request)
        if request.prompt is not None:
            body["prompt"] = request.prompt
        else:
            body["messages"] = [_message(message) for message in request.messages]
            if request.tools and request.tool_choice != "none":
                body["tools"] = [_tool(tool) for tool in request.tools]
                body["tool_choice"] = _tool_choice(request.tool_choice)
        return body

    def embed(self, texts: list[str]) -> Embeddings:
        """Vectors of texts. Raises what Server raises."""
        reply = self.server.post(
            "/embeddings", {"model": self.server.model, "input": texts, "encoding_format": "float"}
        )
        rows = sorted(objects_of(reply.get("data")), key=lambda row: count_of(row.get("index")) or 0)
        vectors = [row.get("embedding") for row in rows]
        n_tokens = count_of(object_of(reply.get("usage")).get("prompt_tokens")) or 0
        return Embeddings(checked_vectors(vectors, len(texts)), n_tokens)

    def _records(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The data of server-sent events, up to [DONE]."""
        for line in self.server.lines(path, body):
            if line.startswith(b"{"):  # an answer that is no stream
                raise self.server.failure(502, self.server.record(line))
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            record = self.server.record(data)
            if "error" in record:
                raise self.server.failure(count_of(object_of(record["error"]).get("code")) or 500, record)
            yield record

    def _refuse(self, request: Request) -> None:
        if request.context_tokens is not None:
            raise refuse("context_tokens", self.server.url)
        if request.adapter is not None:
            raise refuse("adapter", self.server.url, "A server that has the adapter lists it as a model of its own.")
        if request.reasoning is not None and (self.kind != "vllm" or request.prompt is not None):
            raise refuse("reasoning", self.server.url)
        if request.tools and request.prompt is not None and request.tool_choice != "none":
            raise refuse("tools", self.server.url, "A raw prompt has no place for tools.")
        if request.constraint is not None and request.prompt is not None:
            raise refuse("constraint", self.server.url, "Send messages in place of a raw prompt.")

    def _add_sampling(self, body: dict[str, Any], request: Request) -> None:
        sampling, more = request.sampling, _MORE_SAMPLING.get(self.kind, {})
        for name in (*_SAMPLING, "top_k", "min_p", "repeat_penalty", "repeat_last_n"):
            value = getattr(sampling, name)
            if value is None:
                continue
            if name not in _SAMPLING and name not in more:
                raise refuse(name, self.server.url)
            body[more.get(name, name)] = value
        if sampling.top_k == 0 and "top_k" in body:
            body["top_k"] = -1 if self.kind == "vllm" else 0  # all tokens
        if sampling.logit_bias:
            # The API stops at 100 either way, which excludes a token as well.
            body["logit_bias"] = {str(token): max(bias, -100.0) for token, bias in sampling.logit_bias.items()}
        if sampling.logprobs is not None:
            if request.prompt is not None:
                body["logprobs"] = sampling.logprobs
            else:
                body["logprobs"], body["top_logprobs"] = True, sampling.logprobs

    def _add_form(self, body: dict[str, Any], request: Request) -> None:
        if request.reasoning is not None:
            body["chat_template_kwargs"] = {"enable_thinking": request.reasoning}
        match request.constraint:
            case None:
                return
            case JsonSchema(schema):
                form = {"name": "answer", "schema": dict(schema), "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            case Regex(pattern) if self.kind == "vllm":
                body["structured_outputs"] = {"regex": pattern}
            case _:
                raise refuse("constraint", self.server.url, "A JSON schema is what it takes.")


def checked_vectors(vectors: list[Any], n_texts: int) -> list[list[float]]:
    """One list of numbers for each text, or EngineError."""
    are_lists = all(isinstance(vector, list) and vector for vector in vectors)
    if len(vectors) != n_texts or not are_lists or len({len(vector) for vector in vectors}) > 1:
        raise EngineError(f"The server was asked for vectors of {n_texts} texts, and gave something else.")
    if any(not isinstance(value, int | float) for vector in vectors for value in vector):
        raise EngineError("The server gave vectors that are not made of numbers.")
    return vectors


def _message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        wire["name"] = message.name
    return wire


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


@dataclass(slots=True)
class _Calls:
    """Tool calls come in fragments; each belongs to the call of its index."""

    open: dict[int, dict[str, str]] = field(default_factory=dict)

    def add(self, fragments: object) -> None:
        for position, fragment in enumerate(objects_of(fragments)):
            index = count_of(fragment.get("index"))
            parts = self.open.setdefault(position if index is None else index, {"id": "", "name": "", "arguments": ""})
            function = object_of(fragment.get("function"))
            parts["id"] = parts["id"] or text_of(fragment.get("id"))
            parts["name"] += text_of(function.get("name"))
            parts["arguments"] += text_of(function.get("arguments"))

    def take(self) -> list[ToolCall]:
        """All of them, when no more can come."""
        calls = [
            ToolCall(parts["id"] or f"call_{index}", parts["name"], arguments_of(parts["arguments"]))
            for index, parts in sorted(self.open.items())
        ]
        self.open.clear()
        return calls


def _piece(record: Mapping[str, Any], calls: _Calls, *, is_chat: bool) -> Piece:
    usage = object_of(record.get("usage"))
    piece = Piece(
        prompt_tokens=count_of(usage.get("prompt_tokens")),
        cached_tokens=count_of(object_of(usage.get("prompt_tokens_details")).get("cached_tokens")),
        completion_tokens=count_of(usage.get("completion_tokens")),
    )
    choice = next(iter(objects_of(record.get("choices"))), None)
    if choice is None:
        return piece
    logprobs = object_of(choice.get("logprobs"))
    if is_chat:
        delta = object_of(choice.get("delta"))
        piece.text = text_of(delta.get("content"))
        piece.reasoning = text_of(delta.get("reasoning_content")) or text_of(delta.get("reasoning"))
        piece.logprobs = logprobs_of(logprobs.get("content"))
        calls.add(delta.get("tool_calls"))
    else:
        piece.text = text_of(choice.get("text"))
        piece.logprobs = _old_logprobs(logprobs)
    piece.finish = text_of(choice.get("finish_reason")) or None
    piece.stop_text = text_of(choice.get("stop_reason")) or None  # vLLM's; a number is a token
    if piece.finish is not None and calls.open:
        piece.calls = calls.take()
    return piece


def _old_logprobs(logprobs: Mapping[str, Any]) -> list[TokenLogprob]:
    """Of /completions: parallel lists; alternatives by their text."""
    if "content" in logprobs:
        return logprobs_of(logprobs["content"])
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    tops = logprobs.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return []
    tops = tops if isinstance(tops, list) else [None] * len(tokens)
    return [
        TokenLogprob(UNKNOWN_TOKEN, text_of(token), float(value), *_alternatives(top))
        for token, value, top in zip(tokens, values, tops, strict=False)
        if isinstance(value, int | float)
    ]


def _alternatives(top: object) -> tuple[tuple[tuple[int, float], ...], tuple[str, ...]]:
    """Their log-probabilities and texts, the likeliest first."""
    found = [(text, float(value)) for text, value in object_of(top).items() if isinstance(value, int | float)]
    found.sort(key=lambda other: -other[1])
    return tuple((UNKNOWN_TOKEN, value) for _, value in found), tuple(text for text, _ in found)
