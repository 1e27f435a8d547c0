"""What is special about llama.cpp in a process of its own: that the process can die, and what is refused."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from madang.core import (
    AdapterChoice,
    Completion,
    Engine,
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
from madang.engines.llamacpp.wire import completion_body, refuse_what_is_not_done
from madang.formats.families import outline_spec
from madang.formats.gguf import read_gguf
from madang.runtime import Pool, open_model

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
