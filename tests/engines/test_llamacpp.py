"""What is special about llama.cpp in a process of its own: that the process can die, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from madang.core import (
    AdapterChoice,
    Completion,
    Engine,
    EngineInfo,
    Grammar,
    JsonSchema,
    Message,
    Regex,
    Request,
    SamplingParams,
    TextDelta,
    Tool,
    collect,
)
from madang.core.errors import EngineError, InvalidRequest, MalformedFile, UnsupportedModel
from madang.core.settings import Settings, load_settings
from madang.engines import find_engine
from madang.engines.llamacpp.engine import LlamaCppEngine
from madang.engines.llamacpp.process import ServerDied, ServerOptions
from madang.engines.llamacpp.wire import completion_body, refuse_what_is_not_done
from madang.formats.families import outline_spec
from madang.formats.gguf import read_gguf
from madang.formats.tokenizers import tokenizer_from_gguf
from madang.models import Store
from madang.runtime import Pool, find_files, open_model, plan_for

GREEDY = SamplingParams(temperature=0)
CHAT = Request(messages=(Message("user", "Name three fruits."),), sampling=GREEDY, max_tokens=24)
RAW = Request(prompt="one two three one two three one two three", sampling=GREEDY, max_tokens=24)

needs_llamacpp = pytest.mark.skipif(
    not find_engine("llamacpp").is_installed(), reason="the llamacpp engine is not installed; no xllamacpp"
)
needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 here")


def settings(home: Path, **command_line: str | int) -> Settings:
    return load_settings({"engine": "llamacpp", "context": 256, **command_line}, {"MADANG_HOME": str(home)})


@pytest.fixture(scope="module")
def engine(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with closing(open_model(f"file:{starter_gguf}", settings(tmp_path_factory.mktemp("home")))) as loaded:
        yield loaded


def answer(engine: Engine, request: Request) -> Completion:
    return collect(engine.generate(request))


# -- the process


@needs_llamacpp
@needs_kill
@pytest.mark.parametrize("request_", [CHAT, RAW], ids=["chat", "raw"])
def test_a_child_that_is_killed_is_started_again_and_the_answer_goes_on(engine: Any, request_: Request) -> None:
    whole = answer(engine, request_)
    killed, said, events = engine.process_id, "", engine.generate(request_)
    for event in events:
        if isinstance(event, TextDelta):
            said += event.text
            if len(said) > 8 and killed == engine.process_id:
                os.kill(killed, signal.SIGKILL)
        else:
            done = event
    assert said == whole.text
    assert done.usage.completion_tokens == whole.done.usage.completion_tokens
    assert done.finish_reason == whole.done.finish_reason
    assert engine.process_id != killed
    assert engine.is_alive
    assert answer(engine, request_).text == whole.text


@needs_llamacpp
@needs_kill
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_do_not_cut_an_answer_off(engine: Any, stop: signal.Signals) -> None:
    child = engine.process_id
    events = engine.generate(RAW)
    next(events)
    os.kill(child, stop)
    assert collect(events).done.usage.completion_tokens == RAW.max_tokens
    assert answer(engine, RAW).text
    assert engine.process_id == child


@needs_llamacpp
@needs_kill
def test_all_answers_go_on_when_the_child_of_many_dies(engine: Any) -> None:
    requests = [
        Request(prompt=f"{word} one two {word} one two {word}", sampling=GREEDY, max_tokens=48) for word in "abcd"
    ]
    whole = [answer(engine, request).text for request in requests]
    begun = threading.Barrier(len(requests) + 1)

    def ask(request: Request) -> str:
        events = engine.generate(request)
        first = next(events)
        begun.wait(60)
        return first.text + collect(events).text  # type: ignore[no-any-return]

    with ThreadPoolExecutor(len(requests)) as threads:
        tasks = [threads.submit(ask, request) for request in requests]
        begun.wait(60)
        os.kill(engine.process_id, signal.SIGKILL)
        assert [task.result(120)[:20] for task in tasks] == [text[:20] for text in whole]


@needs_llamacpp
@needs_kill
def test_a_child_that_died_between_requests_is_started_again(engine: Any) -> None:
    text = answer(engine, RAW).text
    os.kill(engine.process_id, signal.SIGKILL)
    assert answer(engine, RAW).text == text


@needs_llamacpp
@needs_kill
def test_an_answer_that_is_held_to_a_schema_ends_with_one_error_and_the_next_request_works(engine: Any) -> None:
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    events = engine.generate(Request(prompt="JSON:", sampling=GREEDY, constraint=schema, max_tokens=100))
    next(events)
    os.kill(engine.process_id, signal.SIGKILL)
    with pytest.raises(EngineError, match="ended with status -9"):
        list(events)
    assert list(events) == []
    assert answer(engine, RAW).text


@needs_llamacpp
@needs_kill
def test_the_child_ends_when_its_engine_is_closed(starter_gguf: Path, tmp_path: Path) -> None:
    engine: Any = open_model(f"file:{starter_gguf}", settings(tmp_path))
    answer(engine, RAW)
    engine.close()
    assert not engine.is_alive
    with pytest.raises(ProcessLookupError):
        os.kill(engine.process_id, 0)
    with pytest.raises(EngineError, match="closed"):
        next(engine.generate(RAW))


@needs_llamacpp
@needs_kill
def test_the_child_ends_when_its_parent_is_killed(starter_gguf: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from madang.core.settings import load_settings\n"
        "from madang.runtime import open_model\n"
        "settings = load_settings({'engine': 'llamacpp', 'context': 256}, {'MADANG_HOME': sys.argv[2]})\n"
        "engine = open_model(sys.argv[1], settings)\n"
        "print(engine.process_id, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, f"file:{starter_gguf}", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=60)
    assert gone


@needs_llamacpp
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are told on Linux only")
def test_the_child_has_limits(engine: Any) -> None:
    child = psutil.Process(engine.process_id)
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert 0 < child.rlimit(psutil.RLIMIT_DATA)[1] < 2**35
    assert all(option not in " ".join(child.cmdline()) for option in ("key", "Bearer"))
    (listening,) = [connection for connection in child.net_connections() if connection.status == "LISTEN"]
    assert listening.laddr.ip == "127.0.0.1"


@needs_llamacpp
def test_a_damaged_file_never_reaches_it(tmp_path: Path, starter_gguf: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(starter_gguf.read_bytes()[:3_000_000])
    with pytest.raises(MalformedFile):
        open_model(str(damaged), settings(tmp_path))


@needs_llamacpp
@needs_kill
def test_a_model_whose_child_cannot_be_started_again_is_opened_by_the_pool(tmp_path: Path, starter_gguf: Path) -> None:
    path = tmp_path / "model.gguf"
    content = starter_gguf.read_bytes()
    path.write_bytes(content)
    pool = Pool(settings(tmp_path / "home"))
    with pool.lease(str(path)) as engine:
        path.write_bytes(content[:1000])
        os.kill(engine.process_id, signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(EngineError):
            list(engine.generate(RAW))  # type: ignore[attr-defined]
        assert not engine.is_alive  # type: ignore[attr-defined]
    path.write_bytes(content)
    with pool.lease(str(path)) as engine:
        assert answer(engine, RAW).text  # type: ignore[arg-type]
    pool.close()


# -- models that only it runs


@pytest.fixture(scope="module")
def foreign_gguf(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter model as an architecture that has the same layers, and that the native engine has no page for."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("foreign") / "foreign.gguf"
    reader, writer = gguf.GGUFReader(starter_gguf), gguf.GGUFWriter(path, FOREIGN)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, *of = field.types
        writer.add_key_value(
            field.name.replace("llama.", f"{FOREIGN}.", 1), field.contents(), kind, of[-1] if of else None
        )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


FOREIGN = "ernie4_5"


@needs_llamacpp
def test_what_the_native_engine_refuses_runs_with_it_by_itself(foreign_gguf: Path, engine: Any, tmp_path: Path) -> None:
    own = load_settings({"context": 256}, {"MADANG_HOME": str(tmp_path)})
    pool = Pool(own)
    with pool.lease(str(foreign_gguf)) as loaded:
        assert answer(loaded, RAW).text[:10] == answer(engine, RAW).text[:10]  # type: ignore[arg-type]
    (resident,) = pool.resident()
    assert resident.info.engine == "llamacpp"
    assert "the native engine does not run the architecture 'ernie4_5'" in resident.reason
    assert resident.size_bytes > foreign_gguf.stat().st_size
    pool.close()
    with pytest.raises(UnsupportedModel) as caught:
        open_model(str(foreign_gguf), settings(tmp_path, engine="native"))
    assert caught.value.runs_with == "llamacpp"


@needs_llamacpp
def test_a_long_context_is_taken_only_when_it_is_asked_for(foreign_gguf: Path, tmp_path: Path) -> None:
    content = foreign_gguf.read_bytes()
    long = tmp_path / "long.gguf"
    key = b"ernie4_5.context_length" + (4).to_bytes(4, "little")
    long.write_bytes(content.replace(key + (8192).to_bytes(4, "little"), key + (16384).to_bytes(4, "little"), 1))
    files = find_files(str(long), Store(tmp_path))
    plan = plan_for(files, load_settings({}, {"MADANG_HOME": str(tmp_path)}))
    assert plan.context_tokens.value == 8192
    assert "--context asks for more" in plan.context_tokens.reason
    assert plan_for(files, settings(tmp_path, context=10_000)).context_tokens.value == 10_000


def test_without_a_context_the_plan_of_an_unknown_architecture_keeps_to_the_memory(foreign_gguf: Path) -> None:
    spec = outline_spec(read_gguf(foreign_gguf))
    assert (spec.n_layers, spec.n_kv_heads, spec.head_dim, spec.context_tokens) == (30, 3, 64, 8192)


# -- the same prompt, the same answer


@needs_llamacpp
@pytest.mark.parametrize("request_", [CHAT, RAW], ids=["chat", "raw"])
def test_it_reads_what_the_native_engine_reads(
    engine: Any, starter_gguf: Path, tmp_path: Path, request_: Request
) -> None:
    with closing(open_model(f"file:{starter_gguf}", settings(tmp_path, engine="native"))) as native:
        theirs, ours = answer(engine, request_), answer(native, request_)
    assert theirs.done.usage.prompt_tokens == ours.done.usage.prompt_tokens
    assert theirs.text[:10] == ours.text[:10]


@needs_llamacpp
def test_requests_run_side_by_side(engine: Any) -> None:
    assert engine.info.max_concurrency > 1
    requests = [
        Request(prompt=f"{word} {word} {word}", sampling=GREEDY, max_tokens=6) for word in ("la", "do", "re", "mi") * 2
    ]
    with ThreadPoolExecutor(len(requests)) as threads:
        assert all(completion.text for completion in threads.map(lambda request: answer(engine, request), requests))


@needs_llamacpp
def test_a_schema_holds(engine: Any) -> None:
    import json

    schema = {
        "type": "object",
        "properties": {"ripe": {"type": "boolean"}},
        "required": ["ripe"],
        "additionalProperties": False,
    }
    completion = answer(
        engine, Request(messages=CHAT.messages, constraint=JsonSchema(schema), sampling=GREEDY, max_tokens=60)
    )
    assert list(json.loads(completion.text)) == ["ripe"]


# -- what a child says, and what becomes of it


class Child:
    """Says what it was told to; each list is one life, and a life that does not end with a stop is cut short."""

    is_alive, pid = True, 0

    def __init__(self, *lives: list[str], stop_type: str = "eos") -> None:
        self.lives, self.stop_type = list(lives), stop_type
        self.bodies: list[Mapping[str, Any]] = []

    def complete(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        self.bodies.append(body)
        pieces, timings = self.lives.pop(0), {"cache_n": 0, "prompt_ms": 1.0}
        for n, piece in enumerate(pieces, 1):
            yield {"content": piece, "tokens_predicted": n, "stop": False, "timings": timings}
        if self.lives:
            raise ServerDied("It was killed.")
        yield {"content": "", "tokens_predicted": len(pieces) + 1, "stop": True, "stop_type": self.stop_type}

    def close(self) -> None:
        pass


@pytest.fixture
def engine_of(starter_gguf: Path) -> Callable[..., LlamaCppEngine]:
    file = read_gguf(starter_gguf)

    def made(child: Child, template: str) -> LlamaCppEngine:
        spoken = replace(file, metadata={**file.metadata, "tokenizer.chat_template": template})
        return LlamaCppEngine(
            EngineInfo("llamacpp", "m", 512),
            tokenizer_from_gguf(spoken),
            SamplingParams(),
            ServerOptions("", 512, 1, 1, "f16", 0),
            child,  # type: ignore[arg-type]
        )

    return made


TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{{ messages[0].content }}<tool_call>"
THINKS = "{{ messages[0].content }}{{ '<think>' if enable_thinking else '</think>' }}"


def test_tool_calls_are_read_in_the_dialect_of_the_model(engine_of: Callable[..., LlamaCppEngine]) -> None:
    child = Child(["<tool", '_call>{"name": "look", ', '"arguments": {"at": 1}}', "</tool_call>"])
    request = Request(messages=(Message("user", "hi"),), tools=(Tool("look"),))
    completion = answer(engine_of(child, TOOLS), request)
    assert [(call.name, dict(call.arguments)) for call in completion.tool_calls] == [("look", {"at": 1})]
    assert (completion.done.finish_reason, completion.done.usage.completion_tokens) == ("tool_calls", 5)


def test_reasoning_is_told_apart(engine_of: Callable[..., LlamaCppEngine]) -> None:
    child = Child(["hm", "m</th", "ink>", "yes"])
    request = Request(messages=(Message("user", "hi"),), reasoning=True)
    completion = answer(engine_of(child, THINKS), request)
    assert (completion.reasoning, completion.text) == ("hmm", "yes")


def test_after_an_accident_the_prompt_holds_what_was_said(
    engine_of: Callable[..., LlamaCppEngine], starter_gguf: Path
) -> None:
    child = Child(["one", " two"], [" three"])
    engine = engine_of(child, THINKS)
    completion = answer(engine, Request(prompt="zero", max_tokens=8, sampling=SamplingParams(seed=2**64 - 1)))
    assert completion.text == "one two three"
    first, second = child.bodies
    assert second["prompt"] == tokenizer_from_gguf(read_gguf(starter_gguf)).encode("zeroone two")
    assert second["prompt"][: len(first["prompt"]) - 1] == first["prompt"][:-1]
    assert (first["n_predict"], second["n_predict"]) == (8, 6)
    assert completion.done.usage.completion_tokens == 4
    assert completion.done.usage.prompt_tokens == len(first["prompt"])


def test_an_accident_behind_the_last_token_costs_nothing(engine_of: Callable[..., LlamaCppEngine]) -> None:
    child = Child(["one", " two"], [])
    completion = answer(engine_of(child, THINKS), Request(prompt="zero", max_tokens=2, stop=(" two!",)))
    assert (completion.text, completion.done.finish_reason, len(child.bodies)) == ("one two", "length", 1)


def test_a_second_accident_ends_the_answer_with_one_error(engine_of: Callable[..., LlamaCppEngine]) -> None:
    events = engine_of(Child(["one"], [" two"], []), THINKS).generate(Request(prompt="zero"))
    said = []
    with pytest.raises(EngineError, match="killed"):
        said.extend(event.text for event in events)  # type: ignore[union-attr]
    assert list(events) == []


def test_one_character_of_several_tokens_counts_them_all(engine_of: Callable[..., LlamaCppEngine]) -> None:
    class Splitting(Child):
        def complete(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
            yield {"content": "🙂", "tokens_predicted": 3, "stop": False, "timings": {"cache_n": 0, "prompt_ms": 0.0}}
            yield {"content": "", "tokens_predicted": 4, "stop": True, "stop_type": "limit"}

    done = answer(engine_of(Splitting(), THINKS), Request(prompt="a", max_tokens=4)).done
    assert (done.usage.completion_tokens, done.finish_reason) == (4, "length")


# -- what is sent, and what is refused


def test_every_sampling_parameter_is_sent() -> None:
    sampling = SamplingParams(
        temperature=0.5,
        top_k=7,
        top_p=0.8,
        min_p=0.1,
        repeat_penalty=1.2,
        repeat_last_n=-1,
        presence_penalty=0.3,
        frequency_penalty=-0.4,
        seed=2**64 - 1,
        logit_bias={5: 1.5, 6: float("-inf")},
        logprobs=0,
    )
    body = completion_body([1, 2], sampling, n_predict=3)
    for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n"):
        assert body[name] == getattr(sampling, name)
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.3, -0.4)
    assert body["logit_bias"] == [[5, 1.5], [6, False]]
    assert 0 <= body["seed"] < 2**32 - 1
    assert (body["n_probs"], body["n_predict"], body["prompt"]) == (1, 3, [1, 2])
    assert "n_probs" not in completion_body([1], SamplingParams().resolved(), n_predict=1)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"adapter": AdapterChoice("a")}, "adapter"),
        ({"constraint": Regex("a+")}, "constraint"),
        ({"constraint": Grammar("start: 'a'")}, "constraint"),
        ({"tools": (Tool("t"),), "tool_choice": "required"}, "tool_choice"),
        ({"constraint": JsonSchema({"type": "number", "multipleOf": 3})}, "constraint"),
        ({"constraint": JsonSchema({"type": "number", "minimum": 3})}, "constraint"),
        ({"constraint": JsonSchema({"properties": {"a": {"items": [{"not": {}}]}}})}, "constraint"),
    ],
)
def test_what_it_does_not_do_is_refused(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_what_is_not_done(Request(messages=CHAT.messages, **options), thinks=False)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"$defs": {"x": {"enum": ["not", {"if": 1}]}}, "properties": {"not": {"$ref": "#/$defs/x"}}, "title": "t"},
    ],
)
def test_schemas_that_it_enforces_pass(schema: dict[str, Any]) -> None:
    request = Request(messages=CHAT.messages, constraint=JsonSchema(schema))
    refuse_what_is_not_done(request, thinks=False)
    with pytest.raises(InvalidRequest, match="after reasoning"):
        refuse_what_is_not_done(request, thinks=True)


@needs_llamacpp
def test_a_longer_context_than_it_was_opened_with_is_refused_and_a_shorter_one_kept(engine: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        next(engine.generate(Request(prompt="a", context_tokens=257)))
    assert caught.value.param == "context_tokens"
    done = answer(engine, Request(prompt="one two three one two three", sampling=GREEDY, context_tokens=20)).done
    assert (done.ledger.n_ctx, done.ledger.free_tokens) == (20, 0)
