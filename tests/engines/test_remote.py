"""The remote engine against stand-in servers: what goes out, what comes in, and what can go wrong between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from madang.core import (
    AdapterChoice,
    Grammar,
    JsonSchema,
    Message,
    Regex,
    Request,
    SamplingParams,
    Tool,
    ToolCall,
    collect,
    streaming,
)
from madang.core.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    MadangError,
    ModelNotFound,
)
from madang.core.settings import load_settings
from madang.engines.remote import RemoteEngine
from madang.engines.remote.connection import Server
from madang.engines.remote.engine import UNKNOWN_CONTEXT_TOKENS, open_endpoint
from madang.models import EndpointReference
from madang.runtime import open_embedder, open_model
from tests.engines.servers import Exchange, Record, Respond, StandIn, echo_server, serving

KEY = "sk-very-secret"
KINDS = ("openai", "vllm", "lmstudio", "localai", "ollama-server")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@contextmanager
def connected(
    respond: Respond,
    kind: str = "openai",
    *,
    key: str | None = None,
    silence_timeout_s: float = 30.0,
    busy_pauses_s: tuple[float, ...] = (),
) -> Iterator[tuple[RemoteEngine, StandIn]]:
    """An engine on a server that answers like this; a list of models is always there, and empty."""

    def answer(exchange: Exchange) -> None:
        if exchange.path in ("/models", "/api/show"):
            exchange.json({"data": []})
        else:
            respond(exchange)

    with serving(answer) as server:
        endpoint = EndpointReference(kind, server.url, "m")
        address = Server(server.url, "m", key, silence_timeout_s=silence_timeout_s, busy_pauses_s=busy_pauses_s)
        with closing(open_endpoint(endpoint, address)) as engine:
            yield engine, server


def said(exchange: Exchange) -> None:
    """A short answer, in the API that was spoken."""
    if "options" in exchange.body:
        done = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 1}
        exchange.json({"message": {"content": "hi"}, "response": "hi", **done})
    else:
        exchange.events({"choices": [{"delta": {"content": "hi"}, "text": "hi", "finish_reason": "stop"}]})


def ask(text: str = "hello", **options: object) -> Request:
    return Request(messages=(Message("user", text),), **options)  # type: ignore[arg-type]


def body_of(kind: str, request: Request) -> Record:
    """What goes out for a request."""
    with connected(said, kind) as (engine, server):
        assert collect(engine.generate(request)).text == "hi"
        return server.exchanges[-1].body


# ---- what goes out


def test_a_request_in_openai_s_words() -> None:
    look = Tool("look", "Look.", {"type": "object"})
    request = Request(
        messages=(
            Message("system", "be short"),
            Message("user", "look"),
            Message("assistant", "", (ToolCall("c1", "look", {"at": "sky"}),)),
            Message("tool", "blue", tool_call_id="c1", name="look"),
        ),
        tools=(look,),
        tool_choice="look",
        sampling=SamplingParams(
            temperature=0.0,
            top_p=0.5,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            seed=0,
            logprobs=2,
            logit_bias={5: -float("inf")},
        ),
        max_tokens=0,
        stop=("a", "b"),
    )
    function = {"name": "look", "description": "Look.", "parameters": {"type": "object"}}
    assert body_of("openai", request) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": "look"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
                ],
            },
            {"role": "tool", "content": "blue", "tool_call_id": "c1", "name": "look"},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "temperature": 0.0,
        "top_p": 0.5,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 0,
        "logit_bias": {"5": -100.0},
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 0,
        "stop": ["a", "b"],
    }


def test_a_request_in_ollama_s_words() -> None:
    request = Request(
        messages=(
            Message("assistant", "", (ToolCall("c1", "look", {"at": "sky"}),)),
            Message("tool", "blue", tool_call_id="c1"),
        ),
        tools=(Tool("look"),),
        sampling=SamplingParams(top_k=0, min_p=0.1, repeat_penalty=1.2, repeat_last_n=-1, seed=7, logprobs=1),
        max_tokens=9,
        stop=("a",),
        constraint=JsonSchema({"type": "string"}),
        reasoning=False,
        context_tokens=512,
    )
    assert body_of("ollama-server", request) == {
        "model": "m",
        "stream": True,
        "messages": [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "look", "arguments": {"at": "sky"}}}],
            },
            {"role": "tool", "content": "blue", "tool_name": "look"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "", "parameters": {}}}],
        "format": {"type": "string"},
        "think": False,
        "logprobs": True,
        "top_logprobs": 1,
        "options": {
            "seed": 7,
            "top_k": 0,
            "min_p": 0.1,
            "repeat_penalty": 1.2,
            "repeat_last_n": -1,
            "num_predict": 9,
            "num_ctx": 512,
            "stop": ["a"],
        },
    }


def test_each_kind_of_server_has_its_own_words() -> None:
    sampling = SamplingParams(top_k=0, min_p=0.1, repeat_penalty=1.2)
    vllm = body_of("vllm", ask(sampling=sampling, constraint=Regex("a+"), reasoning=False))
    assert (vllm["top_k"], vllm["min_p"], vllm["repetition_penalty"]) == (-1, 0.1, 1.2)
    assert vllm["structured_outputs"] == {"regex": "a+"}
    assert vllm["chat_template_kwargs"] == {"enable_thinking": False}
    for kind in ("lmstudio", "localai"):
        body = body_of(kind, ask(sampling=sampling))
        assert (body["top_k"], body["min_p"], body["repeat_penalty"]) == (0, 0.1, 1.2)


def test_a_schema_and_a_raw_prompt() -> None:
    form = body_of("openai", ask(constraint=JsonSchema({"type": "string"})))["response_format"]
    assert form["json_schema"] == {"name": "answer", "schema": {"type": "string"}, "strict": True}
    raw = body_of("openai", Request(prompt="once", sampling=SamplingParams(logprobs=0)))
    assert (raw["prompt"], raw["logprobs"], "messages" in raw) == ("once", 0, False)
    assert body_of("ollama-server", Request(prompt="once"))["raw"] is True


REFUSED_BY_ALL = {"adapter": AdapterChoice("mine"), "constraint": Grammar("start: /a/")}
REFUSED = {
    "openai": {**REFUSED_BY_ALL, "context_tokens": 100, "reasoning": True},
    "vllm": {**REFUSED_BY_ALL, "context_tokens": 100},
    "lmstudio": {**REFUSED_BY_ALL, "context_tokens": 100, "reasoning": False},
    "localai": {**REFUSED_BY_ALL, "context_tokens": 100, "reasoning": False},
    "ollama-server": {**REFUSED_BY_ALL, "max_tokens": 0},
}
REFUSED_SAMPLING = {
    "openai": ("top_k", "min_p", "repeat_penalty", "repeat_last_n"),
    "vllm": ("repeat_last_n",),
    "lmstudio": ("repeat_last_n",),
    "localai": ("repeat_last_n",),
    "ollama-server": (),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_server_has_no_word_for_is_refused_by_name_and_nothing_is_sent(kind: str) -> None:
    requests = {param: ask(**{param: value}) for param, value in REFUSED[kind].items()}
    for name in REFUSED_SAMPLING[kind]:
        requests[name] = ask(sampling=SamplingParams.from_mapping({name: 1}))
    requests["tools"] = Request(prompt="raw", tools=(Tool("look"),))
    if kind == "ollama-server":
        requests["tool_choice"] = ask(tools=(Tool("look"),), tool_choice="required")
        requests["logit_bias"] = ask(sampling=SamplingParams(logit_bias={1: 1.0}))
    with connected(said, kind) as (engine, server):
        n_before = len(server.exchanges)
        for param, request in requests.items():
            with pytest.raises(InvalidRequest) as caught:
                next(engine.generate(request))
            assert caught.value.param == param
        assert len(server.exchanges) == n_before


# ---- what comes in


def test_text_reasoning_calls_and_counts() -> None:
    def respond(exchange: Exchange) -> None:
        def call(index: int, arguments: str, **more: object) -> Record:
            function = {"arguments": arguments, **({"name": "look"} if more else {})}
            return {"choices": [{"delta": {"tool_calls": [{"index": index, "function": function, **more}]}}]}

        exchange.events(
            {"choices": [{"delta": {"role": "assistant", "content": None}}]},
            {"choices": [{"delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"delta": {"content": "so 마당"}}]},
            call(0, '{"at"', id="c1"),
            call(0, ': "sky"}'),
            call(1, "{}", id="c2"),
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
            {
                "choices": [],
                "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
            },
        )

    with connected(respond) as (engine, _):
        answer = collect(engine.generate(ask(tools=(Tool("look"),))))
    assert (answer.reasoning, answer.text) == ("hm", "so 마당")
    assert answer.tool_calls == (ToolCall("c1", "look", {"at": "sky"}), ToolCall("c2", "look", {}))
    assert answer.done.finish_reason == "tool_calls"
    assert (answer.done.usage.prompt_tokens, answer.done.usage.cached_tokens) == (9, 4)
    assert answer.done.timings.prompt_tokens_read == 5


def test_ollama_s_thinking_and_calls() -> None:
    def respond(exchange: Exchange) -> None:
        exchange.send(
            b'{"message": {"content": "", "thinking": "hm"}}\n'
            b'{"message": {"tool_calls": [{"function": {"name": "look", "arguments": {"at": "sky"}}}]}}\n'
            b'{"message": {}, "done": true, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4}\n'
        )

    with connected(respond, "ollama-server") as (engine, _):
        answer = collect(engine.generate(ask(tools=(Tool("look"),))))
    assert answer.reasoning == "hm"
    assert answer.tool_calls == (ToolCall("call_0", "look", {"at": "sky"}),)
    assert (answer.done.finish_reason, answer.done.usage.total_tokens) == ("tool_calls", 13)


def test_a_stop_string_that_the_server_lets_through_is_never_shown() -> None:
    def respond(exchange: Exchange) -> None:
        exchange.events(*({"choices": [{"delta": {"content": text}}]} for text in ("on", "e S", "TOP two")))

    with connected(respond) as (engine, _):
        answer = collect(engine.generate(ask(stop=("STOP",))))
    assert (answer.text, answer.done.stop_text, answer.done.finish_reason) == ("one ", "STOP", "stop")


def test_vectors_come_in_the_order_of_the_texts() -> None:
    def respond(exchange: Exchange) -> None:
        if exchange.path == "/api/embed":
            exchange.json({"embeddings": [[1, 2], [3, 4]], "prompt_eval_count": 7})
        else:
            rows = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]
            exchange.json({"data": rows, "usage": {"prompt_tokens": 7}})

    for kind in ("openai", "ollama-server"):
        with connected(respond, kind) as (engine, _):
            embeddings = engine.embed(["a", "b"])
            assert (embeddings.vectors, embeddings.prompt_tokens) == ([[1, 2], [3, 4]], 7)
            with pytest.raises(EngineError, match="vectors of 3 texts"):
                engine.embed(["a", "b", "c"])


@pytest.mark.parametrize("kind", ["vllm", "ollama-server"])
def test_a_server_says_how_long_its_context_is(kind: str, tmp_path: Path) -> None:
    with serving(echo_server(kind, 777)) as server:  # type: ignore[arg-type]
        path = "/v1" if kind == "vllm" else ""
        reference = f"remote:{kind}+{server.url}{path}#double"
        settings = load_settings({}, {"MADANG_HOME": str(tmp_path)})
        engine = open_model(reference, settings)
        assert (engine.info.engine, engine.info.model, engine.info.context_tokens) == ("remote", reference, 777)
        assert collect(engine.generate(ask("마당 🙂"))).text == "마당 🙂"
        assert open_embedder(reference, settings).info.model == reference
    with connected(said) as (engine, _):
        assert engine.info.context_tokens == UNKNOWN_CONTEXT_TOKENS


# ---- trouble


def failing(status: int, record: object) -> Respond:
    return lambda exchange: exchange.json(record, status)


@pytest.mark.parametrize(
    ("status", "record", "error", "words"),
    [
        (401, {"error": {"message": f"bad key {KEY}"}}, EngineUnavailable, "bad key ***"),
        (403, {}, EngineUnavailable, "refused the key"),
        (404, {"error": "model 'm' not found"}, ModelNotFound, "There is no model 'm on http"),
        (400, {"error": {"message": "no", "param": "top_p"}}, InvalidRequest, 'refused the request: "no"'),
        (400, {"error": {"n_prompt_tokens": 9, "n_ctx": 8}}, ContextLengthExceeded, "9 tokens"),
        (429, {"error": {"message": "slow down"}}, EngineError, "is busy"),
        (503, [], EngineError, "is busy"),
        (500, {"error": 5}, EngineError, "status 500"),
        (200, {"error": {"message": "late\x1b[31m"}}, EngineError, 'late [31m"'),
    ],
)
def test_a_status_becomes_our_error(status: int, record: object, error: type[MadangError], words: str) -> None:
    with connected(failing(status, record), key=KEY) as (engine, _), pytest.raises(error) as caught:
        next(engine.generate(ask()))
    assert words in caught.value.message
    assert KEY not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("n_busy", "retry_after", "n_sent"),
    [(0, None, 1), (2, None, 3), (2, "0", 3), (3, None, 3), (2, "3600", 1), (2, "Wed, 21 Oct 2026 07:28:00 GMT", 3)],
)
def test_a_busy_server_is_asked_again_and_not_for_ever(n_busy: int, retry_after: str | None, n_sent: int) -> None:
    def respond(exchange: Exchange) -> None:
        if len(server.exchanges) - 1 > n_busy:  # the first one asked for the models
            said(exchange)
            return
        exchange.send(b"", status=503, **({} if retry_after is None else {"Retry-After": retry_after}))

    with connected(respond, busy_pauses_s=(0.01, 0.02)) as (engine, server):
        if n_busy < n_sent:
            assert collect(engine.generate(ask())).text == "hi"
        else:
            with pytest.raises(EngineError, match="is busy"):
                next(engine.generate(ask()))
        assert len(server.exchanges) - 1 == n_sent


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "in the middle"),
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "in the middle"),
        (b"data: not json\n\n", "other than a JSON object"),
        (b"data: []\n\n", "other than a JSON object"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "other than a JSON object"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "content_filter"}]}\n\n', "filter"),
        (
            b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}]}\n',
            "not a JSON",
        ),
        (b"x" * (5 << 20), "a line of more than"),
    ],
    ids=str,
)
def test_a_stream_that_breaks_its_rules_is_an_error_and_the_next_request_works(content: bytes, words: str) -> None:
    bad = iter([True])

    def respond(exchange: Exchange) -> None:
        if next(bad, False):
            exchange.send(content, kind="text/event-stream")
        else:
            said(exchange)

    with connected(respond) as (engine, _):
        with pytest.raises(EngineError, match=words):
            list(engine.generate(ask()))
        assert collect(engine.generate(ask())).text == "hi"


@pytest.mark.parametrize(
    "choice",
    [{}, {"delta": None}, {"delta": {"content": 5, "tool_calls": 7}}, {"delta": [], "logprobs": {"content": [{}]}}],
)
def test_fields_of_another_type_count_as_missing(choice: Record) -> None:
    def respond(exchange: Exchange) -> None:
        exchange.events(
            {"choices": [choice], "usage": 7}, {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": "x"}}
        )

    with connected(respond) as (engine, _):
        assert collect(engine.generate(ask())).text == ""


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(stack: ExitStack) -> None:
    elsewhere = stack.enter_context(serving(said))

    def respond(exchange: Exchange) -> None:
        exchange.send(b"", status=307, Location=f"{elsewhere.url}/chat/completions")

    engine, server = stack.enter_context(connected(respond, key=KEY))
    with pytest.raises(EngineError, match="redirects, which is not followed"):
        next(engine.generate(ask()))
    assert server.exchanges[-1].headers["Authorization"] == f"Bearer {KEY}"
    assert elsewhere.exchanges == []


def test_leaving_an_answer_closes_the_connection() -> None:
    def respond(exchange: Exchange) -> None:
        exchange.send(b"", kind="text/event-stream")
        while True:  # until the client is gone
            exchange.more(b'data: {"choices": [{"delta": {"content": "more "}}]}\n\n')

    with connected(respond) as (engine, server):
        with streaming(engine, ask()) as events:
            next(events)
        assert server.left.wait(30)


def test_a_server_that_falls_silent_is_left() -> None:
    release = threading.Event()

    def respond(exchange: Exchange) -> None:
        exchange.send(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', kind="text/event-stream")
        release.wait(30)

    with connected(respond, silence_timeout_s=0.2) as (engine, _):
        with pytest.raises(EngineError, match=r"said nothing for 0\.2 s"):
            list(engine.generate(ask()))
        release.set()


def test_a_server_that_is_not_there_says_so(tmp_path: Path) -> None:
    with serving(said) as server:
        url = server.url
    with pytest.raises(EngineUnavailable, match="cannot be reached") as caught:
        open_model(f"remote:{url}/v1#m", load_settings({}, {"MADANG_HOME": str(tmp_path)}))
    assert "running" in (caught.value.hint or "")


# ---- settings


def test_the_key_is_named_and_never_shown(tmp_path: Path) -> None:
    environment = {"MADANG_HOME": str(tmp_path), "OPENER": KEY}
    with serving(echo_server("vllm", 99)) as server:
        reference = f"remote:{server.url}/v1#double"
        settings = load_settings({"remote_key": "OPENER"}, environment)
        open_model(reference, settings).close()
        assert server.exchanges[-1].headers["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(settings) + str([value for _, value, _ in settings.rows()])
        open_model(reference, load_settings({}, environment)).close()
        assert "Authorization" not in server.exchanges[-1].headers
        with pytest.raises(InvalidRequest, match="not set"):
            open_model(reference, load_settings({"remote_key": "OTHER"}, environment))
    for bad in (f"{KEY}\r\nX-Other: 1", f"{KEY}\n", "마당"):
        with pytest.raises(InvalidRequest, match="no header can carry") as caught:
            open_model("vllm:m", load_settings({"remote_key": "OPENER"}, {**environment, "OPENER": bad}))
        assert bad not in str(caught.value.to_dict())
    with pytest.raises(InvalidRequest, match="not the name") as caught:
        load_settings({"remote_key": KEY}, environment)
    assert KEY not in str(caught.value.to_dict())


def test_settings_that_only_our_own_engines_use_are_refused(tmp_path: Path) -> None:
    environment = {"MADANG_HOME": str(tmp_path)}
    for given in ({"threads": 2}, {"engine": "native"}):
        with pytest.raises(InvalidRequest) as caught:
            open_model("vllm:m", load_settings(given, environment))
        assert caught.value.param in given
    with pytest.raises(InvalidRequest, match="needs an address"):
        open_model("smollm2", load_settings({"engine": "remote"}, environment))
