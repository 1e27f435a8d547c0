"""The routes: each takes a request apart, asks for answers, and puts them together again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from madang.core.errors import InvalidRequest
from madang.core.events import Event
from madang.core.messages import Message
from madang.core.request import Request
from madang.server import event_stream
from madang.server.answering import answers, collected, completions, counted_tokens, prepare_summary
from madang.server.bridge import while_connected
from madang.server.describing_sessions import describe_session
from madang.server.event_stream import json_response, stream_events
from madang.server.exchanges import Exchange, begin_exchange
from madang.server.grounding import begin_grounding
from madang.server.openai.chat import ChatRequest
from madang.server.openai.chat_answer import ChatChunks, chat_completion
from madang.server.openai.completion import CompletionChunks, CompletionRequest, text_completion
from madang.server.openai.embedding import EmbeddingRequest, embed
from madang.server.openai.errors import error_event
from madang.server.openai.messages import core_messages
from madang.server.openai.models import model_list, one_model
from madang.server.openai.rerank import RerankRequest, rerank
from madang.server.openai.response_answer import ResponseBuilder
from madang.server.openai.response_request import ResponseRequest
from madang.server.openai.tokens import DetokenizeRequest, TokenizeRequest, apply_template, detokenize, tokenize
from madang.server.state import ServerState
from madang.server.wire import State

router = APIRouter(tags=["OpenAI"])


def include(app: FastAPI) -> None:
    """Add the routes under ``/v1``, and without it, where many clients look for them."""
    app.include_router(router, prefix="/v1")
    app.include_router(router, include_in_schema=False)


@router.get("/models")
def list_models(state: State) -> dict[str, Any]:
    """The models of this machine."""
    return model_list(state)


@router.get("/models/{name:path}")
def show_model(name: str, state: State) -> dict[str, Any]:
    """One of them."""
    return one_model(state, name)


@router.post("/chat/completions")
async def chat_completions(http: HttpRequest, body: ChatRequest, state: State) -> Response:
    """Answer a conversation."""
    warnings = body.warnings()
    exchange = await begin_exchange(body.madang, core_messages(body.messages), body.model)
    requests = body.core_requests(exchange)
    policy = exchange.policy if exchange is not None and body.context_overflow is None else body.context_overflow
    memory = None if exchange is None else exchange.memory
    grounding = await while_connected(http, begin_grounding(http, body.madang, exchange, requests[0]))
    if grounding is not None and len(requests) > 1:
        raise InvalidRequest("Documents are looked into for one answer at a time; n must be 1.", param="n")
    stream = answers(state, body.model, requests, overflow=policy, memory=memory, grounding=grounding)
    if exchange is not None:
        stream = exchange.kept(stream, partial(_prepared, state, body.model, requests[0], exchange))
    facts = exchange.facts if exchange is not None else grounding.facts if grounding is not None else dict
    if body.stream:
        return await stream_events(http, _chunks(stream, ChatChunks(body, warnings, facts)), error_event)
    whole = await while_connected(http, collected(stream, len(requests)))
    return json_response(chat_completion(body, whole, warnings, facts()))


@router.post("/completions")
async def text_completions(http: HttpRequest, body: CompletionRequest, state: State) -> Response:
    """Go on with a text."""
    warnings, requests = body.ignored(), body.core_requests()
    if body.stream:
        stream = answers(state, body.model, requests)
        return await stream_events(http, _chunks(stream, CompletionChunks(body, warnings)), error_event)
    whole = await while_connected(http, completions(state, body.model, requests))
    return json_response(text_completion(body, whole, warnings))


@router.post("/responses")
async def responses(http: HttpRequest, body: ResponseRequest, state: State) -> Response:
    """Answer a conversation, in the newer shape; nothing is kept."""
    warnings, request = body.warnings(), body.core_request()
    builder = ResponseBuilder(body, warnings)
    if body.stream:
        stream = _response_events(state, body, request, builder)
        return await stream_events(http, stream, lambda error: _named(builder.fail(error)))
    await while_connected(http, _built(state, body, request, builder))
    return json_response(builder.response)


@router.post("/embeddings")
async def embeddings(http: HttpRequest, body: EmbeddingRequest, state: State) -> Response:
    """Vectors of texts."""
    return json_response(await while_connected(http, embed(state, body)))


@router.post("/rerank")
async def reranked(http: HttpRequest, body: RerankRequest, state: State) -> Response:
    """Documents, closest to a query first."""
    return json_response(await while_connected(http, rerank(state, body)))


@router.post("/tokenize")
async def tokens(http: HttpRequest, body: TokenizeRequest, state: State) -> Response:
    """The tokens of a text."""
    return json_response(await while_connected(http, tokenize(state, body)))


@router.post("/chat/completions/input_tokens")
async def input_tokens(http: HttpRequest, body: ChatRequest, state: State) -> Response:
    """How long the prompt of a conversation is."""
    body.ignored()
    exchange = await begin_exchange(body.madang, core_messages(body.messages), body.model)
    [request, *_] = body.core_requests(exchange)
    return await _counted(http, state, body.model, request)


@router.post("/responses/input_tokens")
async def response_input_tokens(http: HttpRequest, body: ResponseRequest, state: State) -> Response:
    """The same for the newer shape."""
    body.ignored()
    return await _counted(http, state, body.model, body.core_request())


@router.post("/detokenize")
async def detokenized(http: HttpRequest, body: DetokenizeRequest, state: State) -> Response:
    """The text of tokens."""
    return json_response(await while_connected(http, detokenize(state, body)))


@router.post("/apply-template")
async def template_applied(http: HttpRequest, body: ChatRequest, state: State) -> Response:
    """What the model would read of a conversation, as text."""
    body.ignored()
    [request, *_] = body.core_requests()
    return json_response(await while_connected(http, apply_template(state, body.model, request)))


async def _counted(http: HttpRequest, state: ServerState, model: str, request: Request) -> Response:
    n_tokens = await while_connected(http, counted_tokens(state, model, request))
    return json_response({"object": "response.input_tokens", "input_tokens": n_tokens})


async def _prepared(state: ServerState, model: str, request: Request, exchange: Exchange, answer: Message) -> None:
    whole = replace(request, messages=(*request.messages, answer))
    if exchange.is_long and exchange.memory is not None:
        await prepare_summary(state, model, whole, exchange.memory)
    if exchange.is_undescribed and state.settings.describe:
        await describe_session(state, model, whole, exchange)


async def _built(state: ServerState, body: ResponseRequest, request: Request, builder: ResponseBuilder) -> None:
    async with aclosing(answers(state, body.model, [request], overflow=body.overflow)) as stream:
        async for _, event in stream:
            builder.push(event)


async def _response_events(
    state: ServerState, body: ResponseRequest, request: Request, builder: ResponseBuilder
) -> AsyncGenerator[bytes, None]:
    async with aclosing(answers(state, body.model, [request], overflow=body.overflow)) as stream:
        is_first = True
        async for _, event in stream:
            if is_first:  # not before: what is refused has a status of its own
                yield _named(builder.begin())
                is_first = False
            yield _named(builder.push(event))


def _named(told: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(event_stream.named(event["type"], event) for event in told)


async def _chunks(
    stream: AsyncGenerator[tuple[int, Event], None],
    shape: ChatChunks | CompletionChunks,
) -> AsyncGenerator[bytes, None]:
    async with aclosing(stream):
        async for index, event in stream:
            yield shape.push(index, event)
    yield shape.end() + event_stream.DONE
