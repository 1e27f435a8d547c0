"""Stand-ins for other servers, in the test process: they speak OpenAI's or Ollama's API, and the echo answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from madang.core import Done, Event, Message, Request, SamplingParams, TextDelta, TokenLogprob
from madang.core.errors import ContextLengthExceeded, MadangError
from madang.engines.echo import EchoEngine

Record = dict[str, Any]
Respond = Callable[["Exchange"], None]


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    path: str
    headers: Mapping[str, str]
    body: Record
    handler: BaseHTTPRequestHandler

    def send(self, content: bytes, *, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        """The head, and a first piece of the body; the body ends with the connection."""
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.more(content)

    def more(self, content: bytes) -> None:
        """Another piece."""
        self.handler.wfile.write(content)
        self.handler.wfile.flush()

    def json(self, record: object, status: int = 200) -> None:
        """A whole answer."""
        self.send(json.dumps(record).encode(), status=status)

    def events(self, *records: object) -> None:
        """A whole stream of server-sent events."""
        lines = [*(json.dumps(record) for record in records), "[DONE]"]
        self.send("".join(f"data: {line}\n\n" for line in lines).encode(), kind="text/event-stream")


@dataclass
class StandIn:
    """A server on a free port of this machine. ``exchanges`` are the requests it got, oldest first."""

    url: str
    exchanges: list[Exchange] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)  # a client closed its connection before the end


@contextmanager
def serving(respond: Respond) -> Iterator[StandIn]:
    """Answer every request with ``respond``, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.exchange({})

        def do_POST(self) -> None:
            self.exchange(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def exchange(self, body: Record) -> None:
            exchange = Exchange(self.path, self.headers, body, self)  # type: ignore[arg-type]
            stand_in.exchanges.append(exchange)
            try:
                respond(exchange)
            except (BrokenPipeError, ConnectionResetError):
                stand_in.left.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in = StandIn(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def echo_server(api: Literal["vllm", "ollama-server"], context_tokens: int) -> Respond:
    """A server with one model, the echo, which says of itself what such a server says of a model."""

    def respond(exchange: Exchange) -> None:
        path = exchange.path
        if path == "/v1/models":
            exchange.json({"data": [{"id": "double", "max_model_len": context_tokens}]})
        elif path == "/api/show":
            exchange.json({"model_info": {"echo.context_length": context_tokens}})
        elif path in ("/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate"):
            _answer(exchange, EchoEngine("double", context_tokens), _openai if api == "vllm" else _ollama)
        else:
            exchange.json({"error": {"message": "no such path"}}, 404)

    return respond


def _answer(exchange: Exchange, engine: EchoEngine, said: Callable[[Event, bool], Iterator[Record]]) -> None:
    body = exchange.body
    is_ollama, is_chat = "options" in body, "messages" in body
    kind = "application/x-ndjson" if is_ollama else "text/event-stream"
    begin, end = (b"", b"\n") if is_ollama else (b"data: ", b"\n\n")
    events = engine.generate(_request(body))
    try:
        first = next(events)
    except ContextLengthExceeded as error:
        numbers = {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
        exchange.json({"error": {"message": error.message, "code": 400, **numbers}}, 400)
        return
    except MadangError as error:
        exchange.json({"error": {"message": error.message, "param": getattr(error, "param", None)}}, 400)
        return
    exchange.send(b"", kind=kind)
    for event in (first, *events):
        for record in said(event, is_chat):
            exchange.more(begin + json.dumps(record).encode() + end)
    if not is_ollama:
        exchange.more(b"data: [DONE]\n\n")


def _request(body: Record) -> Request:
    options = body.get("options", body)
    names = ("temperature", "top_k", "top_p", "min_p", "seed")
    sampling: Record = {name: options[name] for name in names if name in options}
    if sampling.get("top_k") == -1:
        sampling["top_k"] = 0
    if "top_logprobs" in body or "logprobs" in body:
        sampling["logprobs"] = body.get("top_logprobs", body.get("logprobs"))
    messages = tuple(Message(message["role"], message["content"]) for message in body.get("messages", ()))
    return Request(
        messages=messages,
        prompt=body.get("prompt"),
        sampling=SamplingParams(**sampling),
        max_tokens=options.get("num_predict", options.get("max_tokens")),
        stop=tuple(options.get("stop", ())),
        context_tokens=options.get("num_ctx"),
    )


def _openai(event: Event, is_chat: bool) -> Iterator[Record]:
    if isinstance(event, TextDelta):
        choice: Record = {"index": 0, "delta": {"content": event.text}} if is_chat else {"text": event.text}
        choice["logprobs"] = {"content": [_logprob(token) for token in event.logprobs]} if event.logprobs else None
        yield {"choices": [choice]}
    elif isinstance(event, Done):
        yield {"choices": [{"delta": {}, "finish_reason": event.finish_reason, "stop_reason": event.stop_text}]}
        usage = event.usage
        yield {
            "choices": [],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            },
        }


def _ollama(event: Event, is_chat: bool) -> Iterator[Record]:
    if isinstance(event, TextDelta):
        record: Record = (
            {"message": {"role": "assistant", "content": event.text}} if is_chat else {"response": event.text}
        )
        yield {**record, "done": False, "logprobs": [_logprob(token) for token in event.logprobs]}
    elif isinstance(event, Done):
        usage = event.usage
        counts = {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
        yield {"done": True, "done_reason": event.finish_reason, **counts}


def _logprob(token: TokenLogprob) -> Record:
    top = [{"id": number, "token": "", "logprob": logprob} for number, logprob in token.top]
    return {"id": token.token_id, "token": token.text, "logprob": token.logprob, "top_logprobs": top}
