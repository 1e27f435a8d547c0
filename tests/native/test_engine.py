"""The native engine beyond what every engine promises (tests/conformance): its cache, its limits, its end."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madang import _core
from madang.core import (
    CacheHolder,
    CacheUsage,
    Cancellable,
    Completion,
    Event,
    Message,
    Pushing,
    Request,
    SamplingParams,
    TextDelta,
    collect,
    streaming,
)
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest, NotEnoughMemory
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.hardware import kv_cache_bytes
from madang.native import NativeEngine, load
from tests.native.bare import BareModel, bare_decoder
from tests.native.conftest import CONTEXT_TOKENS, PAGE_BYTES, OpenEngine, as_files, as_plan
from tests.native.tiny import MODEL
from tests.parity.checkpoints import TinyModel, add_byte_tokens, write_checkpoint

# Keeps answers to printable ASCII, one token a letter, so that an answer can be sent back as part of a prompt.
PRINTABLE = {3 + byte: 100.0 for byte in range(ord("!"), ord("~") + 1)}
HOT = SamplingParams(temperature=1.5, seed=0, logit_bias=PRINTABLE, logprobs=2)
GREEDY = SamplingParams(temperature=0, logit_bias=PRINTABLE)


def ask(engine: NativeEngine, text: str, n_tokens: int = 8, sampling: SamplingParams = HOT) -> Completion:
    return collect(engine.generate(Request(prompt=text, max_tokens=n_tokens, sampling=sampling)))


def same(one: Completion, other: Completion) -> bool:
    """Text, and the bits of every probability."""
    return (one.text, one.logprobs) == (other.text, other.logprobs)


# ---- reuse of the cache. A prompt of n letters has n + 1 tokens, as long as there is no space in it.


@pytest.mark.parametrize(
    ("first", "then", "n_cached"),
    [
        ("once-upon-a-time", "once-upon-a-time", 16),  # its last token is read again, for its logits
        ("once-upon-a-time", "once-upon-a", 11),
        ("once-upon-a-time", "once-upon-a-tree", 14),
        ("once-upon-a-time", "once-upon-a-time-there-was", 17),
        ("once-upon-a-time", "twice", 1),
        ("once", "", 0),
        ("", "once", 1),
    ],
)
def test_the_common_prefix_is_reused_and_changes_no_bit(
    open_engine: OpenEngine, first: str, then: str, n_cached: int
) -> None:
    engine = open_engine()
    assert ask(engine, first).done.usage.cached_tokens == 0
    reused, fresh = ask(engine, then, 20), ask(open_engine(), then, 20)
    assert reused.done.usage.cached_tokens == reused.done.ledger.cached_tokens == n_cached
    assert reused.done.timings.prompt_tokens_read == len(then) + 1 - n_cached
    assert fresh.done.usage.cached_tokens == 0
    assert same(reused, fresh)


def test_the_answer_is_part_of_the_cache(open_engine: OpenEngine) -> None:
    engine = open_engine()
    prompt = "tell-me"
    for turn in range(4):
        completion = ask(engine, prompt, 10)
        if turn:  # all but the last token of the answer had been read, and what was added had not
            assert completion.done.usage.cached_tokens == len(prompt) - len("-and-then")
        assert same(completion, ask(open_engine(), prompt, 10))
        prompt += completion.text + "-and-then"


def test_a_chat_reads_only_what_is_new(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=1024)
    messages: tuple[Message, ...] = ()
    n_before = 0
    for question in ("Who are you?", "Why?", "Since when?"):
        messages += (Message("user", question),)
        request = Request(messages=messages, max_tokens=6, sampling=GREEDY)
        completion = collect(engine.generate(request))
        assert completion.done.usage.cached_tokens >= n_before
        assert completion.done.usage.prompt_tokens == engine.count_tokens(request)
        assert completion.text == collect(open_engine(context_tokens=1024).generate(request)).text
        n_before = completion.done.usage.prompt_tokens
        messages += (Message("assistant", completion.text),)


@given(st.lists(st.tuples(st.text("ab", max_size=40), st.integers(0, 12)), min_size=2, max_size=6), st.integers(1, 30))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_history_of_requests_changes_an_answer(
    open_engine: OpenEngine, requests: list[tuple[str, int]], chunk: int
) -> None:
    engine = open_engine(chunk=chunk)
    for text, n_tokens in requests:
        assert same(ask(engine, text, n_tokens), ask(open_engine(), text, n_tokens))


@pytest.mark.parametrize("chunk", [1, 7, 16, 1000])
@pytest.mark.parametrize("threads", [1, 2])
def test_chunks_and_threads_change_no_bit(open_engine: OpenEngine, chunk: int, threads: int) -> None:
    text = "a longer text, which takes several pages and chunks to read, is here"
    engine = open_engine(chunk=chunk, threads=threads)
    assert engine.threads == threads
    assert same(ask(engine, text), ask(open_engine(), text))


@pytest.mark.parametrize("isa", _core.available_isas())
def test_every_instruction_set_says_the_same(open_engine: OpenEngine, isa: str) -> None:
    engine = open_engine(isa=isa)
    assert engine.isa == isa
    assert ask(engine, "hello", sampling=GREEDY).text == ask(open_engine(), "hello", sampling=GREEDY).text


# ---- the context


def test_a_prompt_that_fills_the_context_has_no_room_for_an_answer(open_engine: OpenEngine) -> None:
    engine = open_engine()
    full = "x" * (CONTEXT_TOKENS - 1)
    for n_tokens in (1, None):
        with pytest.raises(ContextLengthExceeded, match="at least one must be left") as caught:
            next(engine.generate(Request(prompt=full, max_tokens=n_tokens)))
        assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (CONTEXT_TOKENS, CONTEXT_TOKENS)
    only_read = ask(engine, full, 0)
    assert only_read.text == ""
    assert only_read.done.ledger.free_tokens == 0


def test_a_prompt_beyond_the_context_is_refused_with_its_length(open_engine: OpenEngine) -> None:
    engine = open_engine()
    for n_tokens in (0, 1):
        with pytest.raises(ContextLengthExceeded) as caught:
            next(engine.generate(Request(prompt="x" * CONTEXT_TOKENS, max_tokens=n_tokens)))
        assert caught.value.n_prompt_tokens == CONTEXT_TOKENS + 1


@pytest.mark.parametrize("n_tokens", [5, 6, 1000, None])
def test_an_answer_ends_where_the_context_does(open_engine: OpenEngine, n_tokens: int | None) -> None:
    prompt = "x" * (CONTEXT_TOKENS - 6)
    request = Request(prompt=prompt, max_tokens=n_tokens, sampling=GREEDY)
    done = collect(open_engine().generate(request)).done
    assert done.finish_reason == "length"
    assert done.usage.completion_tokens == min(n_tokens or 5, 5)
    assert done.ledger.free_tokens == 0


def test_a_request_may_ask_for_another_context(open_engine: OpenEngine) -> None:
    engine = open_engine()
    longer = 2 * CONTEXT_TOKENS
    prompt = "x" * CONTEXT_TOKENS
    done = collect(engine.generate(Request(prompt=prompt, context_tokens=longer, sampling=GREEDY))).done
    assert (done.ledger.n_ctx, done.ledger.free_tokens) == (longer, 0)
    with pytest.raises(ContextLengthExceeded) as caught:
        ask(engine, prompt)
    assert caught.value.n_ctx == CONTEXT_TOKENS
    with pytest.raises(InvalidRequest, match="was trained for 1024"):
        next(engine.generate(Request(prompt=prompt, context_tokens=1025)))
    with pytest.raises(NotEnoughMemory, match="A context of 1024 tokens"):
        next(open_engine(n_pages=16).generate(Request(prompt="x", context_tokens=1024)))


def test_a_refused_request_leaves_the_cache(open_engine: OpenEngine) -> None:
    engine = open_engine()
    ask(engine, "once-upon-a-time")
    with pytest.raises(ContextLengthExceeded):
        ask(engine, "x" * 500)
    assert ask(engine, "once-upon-a-time").done.usage.cached_tokens == 16


def test_an_empty_prompt_needs_a_token_that_begins_a_text(open_engine: OpenEngine, tmp_path: Path) -> None:
    assert ask(open_engine(), "").done.usage.prompt_tokens == 1

    def without_beginning(writer: Any) -> None:
        add_byte_tokens(writer, MODEL.vocab_size)
        writer.add_add_bos_token(False)

    path = write_checkpoint(MODEL, tmp_path / "tiny.gguf", edit=without_beginning).path
    with closing(load(as_files(path), as_plan())) as engine:
        with pytest.raises(InvalidRequest, match="The prompt is empty"):
            ask(engine, "")
        assert ask(engine, "a").done.usage.prompt_tokens == 1


# ---- one after another


def test_leaving_in_the_middle_keeps_what_was_read(open_engine: OpenEngine) -> None:
    engine = open_engine()
    whole = ask(open_engine(), "once-upon-a-time", 12)
    for n_read in (1, 5):
        request = Request(prompt="once-upon-a-time", max_tokens=12, sampling=HOT)
        with streaming(engine, request) as events:
            pieces = [next(events) for _ in range(n_read)]
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)) == whole.text[:n_read]
        again = ask(engine, "once-upon-a-time", 12)
        assert again.done.usage.cached_tokens == 16
        assert same(again, whole)


def test_a_second_answer_at_the_same_time_disturbs_neither(open_engine: OpenEngine) -> None:
    engine = open_engine()
    first, second = (ask(open_engine(), text) for text in ("first", "second"))
    events = engine.generate(Request(prompt="first", max_tokens=8, sampling=HOT))
    head = next(events)
    assert same(ask(engine, "second"), second)
    assert min(engine.benchmark(1, 1)) > 0
    assert isinstance(head, TextDelta)
    assert head.text + collect(events).text == first.text


def test_a_bad_request_leaves_the_engine_free(open_engine: OpenEngine) -> None:
    engine = open_engine()
    with pytest.raises(InvalidRequest):
        next(engine.generate(Request(messages=(Message("user", "x" * 1000),))))
    assert ask(engine, "next").text


def test_a_closed_engine_says_so(open_engine: OpenEngine) -> None:
    engine = open_engine()
    ask(engine, "something")
    engine.close()
    engine.close()
    uses = (partial(ask, engine, "more"), partial(engine.benchmark, 1, 1), lambda: engine.isa, lambda: engine.threads)
    for use in uses:
        with pytest.raises(EngineError, match="The engine of tiny is closed"):
            use()


def test_closing_in_the_middle_of_an_answer_does_no_harm(open_engine: OpenEngine) -> None:
    engine = open_engine()
    events = engine.generate(Request(prompt="something", max_tokens=8, sampling=HOT))
    next(events)
    engine.close()
    try:
        collect(events)
    except EngineError as error:
        assert "closed" in error.message


def test_a_benchmark_leaves_nothing_behind(open_engine: OpenEngine) -> None:
    engine = open_engine(chunk=16)
    before = ask(engine, "once-upon-a-time")
    prompt_s, decode_s = engine.benchmark(50, 3)
    assert prompt_s > 0
    assert decode_s > 0
    after = ask(engine, "once-upon-a-time")
    assert after.done.usage.cached_tokens == 16
    assert same(after, before)


def test_a_benchmark_that_does_not_fit_is_refused(open_engine: OpenEngine) -> None:
    engine = open_engine(n_pages=4)
    with pytest.raises(NotEnoughMemory, match="benchmark"):
        engine.benchmark(100, 3)
    assert ask(engine, "and-then").text


def test_the_publishers_sampling_fills_in_what_a_request_leaves_open(open_engine: OpenEngine) -> None:
    engine = open_engine()  # temperature 0
    request = Request(prompt="hello", max_tokens=12)
    assert collect(engine.generate(request)).text == collect(engine.generate(request)).text
    hot = Request(prompt="hello", max_tokens=12, sampling=SamplingParams(temperature=5, seed=1))
    assert collect(engine.generate(hot)).text != collect(engine.generate(request)).text


# ---- memory


@pytest.mark.parametrize(
    "model",
    [
        TinyModel("16", head_dim=16, n_layers=3),
        TinyModel("80", head_dim=80, n_heads=4, n_kv_heads=4),
        TinyModel("8", head_dim=8),
    ],
    ids=str,
)
@pytest.mark.parametrize("n_tokens", [1, 16, 17, 1000])
@pytest.mark.parametrize("kv_type", ["f16", "int8"])
def test_the_estimate_of_the_cache_is_what_its_pages_take(
    tmp_path_factory: pytest.TempPathFactory, model: TinyModel, n_tokens: int, kv_type: str
) -> None:
    path = write_checkpoint(model, tmp_path_factory.mktemp("memory") / "model.gguf").path
    spec = describe_gguf(read_gguf(path)).spec
    shape = BareModel(
        n_heads=model.n_heads, n_kv_heads=model.n_kv_heads, head_dim=model.head_dim, windows=(0,) * model.n_layers
    )
    n_pages = -(-n_tokens // _core.PAGE_TOKENS)
    decoder = bare_decoder(shape, kv_type=kv_type)
    assert kv_cache_bytes(spec, n_tokens, kv_type=kv_type) == decoder.page_bytes * n_pages


def test_it_says_what_its_cache_holds_and_what_that_is_good_for(open_engine: OpenEngine) -> None:
    engine = open_engine(n_pages=50)
    assert isinstance(engine, CacheHolder)
    empty = CacheUsage(PAGE_BYTES, 50, 0, 0, 0, 0, 0, 0)
    assert engine.cache_usage() == empty
    ask(engine, "once-upon-a-time", 1)
    assert engine.cache_usage() == replace(empty, idle_pages=2, asked_tokens=17)
    with streaming(engine, Request(prompt="once-upon-a-tree", max_tokens=100, sampling=HOT)) as events:
        next(events)
        usage = engine.cache_usage()
        assert (usage.asked_tokens, usage.found_tokens) == (34, 14)
        assert usage.held_pages + usage.idle_pages <= usage.limit_pages
    engine.clear_cache()
    usage = engine.cache_usage()
    assert (usage.held_pages, usage.idle_pages) == (0, 0)
    assert usage.evicted_pages >= 2


def test_it_says_what_it_is(open_engine: OpenEngine) -> None:
    engine = open_engine()
    assert (engine.info.engine, engine.info.model) == ("native", "tiny")
    assert engine.info.context_tokens == CONTEXT_TOKENS
    assert engine.info.load_s > 0
    assert engine.isa == _core.available_isas()[0]


def test_another_thread_can_end_the_wait_for_an_answer(open_engine: OpenEngine) -> None:
    with closing(open_engine()) as engine:
        stream = engine.generate(Request(prompt="once", max_tokens=None, sampling=HOT))
        assert isinstance(stream, Cancellable)
        next(stream)
        ender = threading.Thread(target=stream.cancel)
        ender.start()
        for _ in stream:  # what had come already; ends without a Done
            pass
        ender.join()
        assert ask(engine, "once-upon-a-time").text


def test_an_answer_that_is_pushed_is_the_one_that_is_read(open_engine: OpenEngine) -> None:
    with closing(open_engine()) as engine:
        request = Request(prompt="once-upon-a-time", max_tokens=12, sampling=HOT)
        arrived: list[Event] = []
        ended: SimpleQueue[Exception | None] = SimpleQueue()
        stream = engine.generate(request)
        assert isinstance(stream, Pushing)
        stream.push(arrived.extend, ended.put)
        assert ended.get(timeout=60) is None
        assert collect(arrived).text == collect(engine.generate(request)).text


def test_cancelling_a_pushed_answer_ends_it(open_engine: OpenEngine) -> None:
    with closing(open_engine()) as engine:
        ended: SimpleQueue[Exception | None] = SimpleQueue()
        stream = engine.generate(Request(prompt="once", max_tokens=None, sampling=HOT))
        stream.push(lambda events: None, ended.put)
        stream.cancel()
        assert ended.get(timeout=60) is None


def test_closing_the_engine_ends_a_pushed_answer_with_the_reason(open_engine: OpenEngine) -> None:
    engine = open_engine()
    begun = threading.Event()
    ended: SimpleQueue[Exception | None] = SimpleQueue()
    stream = engine.generate(Request(prompt="once", max_tokens=None, sampling=HOT))
    stream.push(lambda events: begun.set(), ended.put)
    assert begun.wait(60)
    engine.close()
    assert isinstance(ended.get(timeout=60), EngineError | None)


def test_what_is_wrong_with_a_request_raises_before_anything_is_pushed(open_engine: OpenEngine) -> None:
    with closing(open_engine()) as engine, pytest.raises(ContextLengthExceeded):
        engine.generate(Request(prompt="x" * 5000)).push(lambda events: None, lambda failure: None)
