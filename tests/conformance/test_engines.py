"""What every engine promises, whatever it runs. One suite; the engines come from the table.

Engines differ in what they say, so expectations are taken from the engine's own greedy answer.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from madang.core import (
    AdapterChoice,
    Completion,
    Constraint,
    Done,
    Engine,
    Event,
    JsonSchema,
    Message,
    Regex,
    Request,
    SamplingParams,
    TextDelta,
    TokenCounter,
    Tool,
    collect,
    streaming,
)
from madang.core.errors import ContextLengthExceeded, InvalidRequest, MadangError
from tests.conformance.conftest import CONTEXT_TOKENS, OpenEngine

GREEDY = SamplingParams(temperature=0)
# Prompts that a model goes on with and the echo repeats: ASCII, two- to four-byte characters, joined emoji.
ENGLISH = "one two three one two three one two three one two three"
KOREAN = "가나다라 가나다라 가나다라 가나다라 가나다라"
EMOJI = "🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃👩‍👩‍👧🙂"
N_TOKENS = 16
SCRIPTS = pytest.mark.parametrize("text", [ENGLISH, KOREAN, EMOJI], ids=["english", "korean", "emoji"])


def ask(text: str = ENGLISH, **options: object) -> Request:
    options = {"sampling": GREEDY, "max_tokens": N_TOKENS, **options}
    return Request(prompt=text, **options)  # type: ignore[arg-type]


def chat(*contents: str, **options: object) -> Request:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))  # type: ignore[arg-type]
    return Request(messages=messages, **{"sampling": GREEDY, "max_tokens": N_TOKENS, **options})  # type: ignore[arg-type]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta)]


# -- the stream


@pytest.mark.parametrize("request_", [ask(), ask(KOREAN), chat("hello"), chat("one", "two", "three")])
def test_one_done_and_it_is_last(engine: Engine, request_: Request) -> None:
    events = list(engine.generate(request_))
    assert [type(event) for event in events].count(Done) == 1
    assert isinstance(events[-1], Done)


@SCRIPTS
def test_the_blocking_answer_is_the_stream_put_together(engine: Engine, text: str) -> None:
    events = list(engine.generate(ask(text)))
    completion = collect(engine.generate(ask(text)))
    assert completion.text == "".join(texts(events))
    assert completion.text


def test_text_comes_in_pieces(engine: Engine) -> None:
    assert len(texts(list(engine.generate(ask())))) > 1


@pytest.mark.parametrize("text", [KOREAN, EMOJI], ids=["korean", "emoji"])
def test_pieces_are_whole_characters(engine: Engine, text: str) -> None:
    shown = "".join(texts(list(engine.generate(ask(text)))))
    assert not shown.isascii()
    assert "\ufffd" not in shown


@pytest.mark.parametrize("text", [KOREAN, EMOJI], ids=["korean", "emoji"])
def test_a_limit_leaves_no_part_of_a_character(engine: Engine, text: str) -> None:
    whole = collect(engine.generate(ask(text))).text
    for limit in range(1, 5):
        cut = collect(engine.generate(ask(text, max_tokens=limit)))
        assert whole.startswith(cut.text)
        assert (cut.done.finish_reason, cut.done.usage.completion_tokens) == ("length", limit)


# -- stop strings


@SCRIPTS
@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_stop_string_ends_the_answer_before_it(engine: Engine, text: str, length: int) -> None:
    whole = collect(engine.generate(ask(text))).text
    for start in range(0, len(whole) - length, len(whole) // 3):
        stop = whole[start : start + length]
        events = list(engine.generate(ask(text, stop=(stop,))))
        assert "".join(texts(events)) == whole[: whole.index(stop)]
        done = events[-1]
        assert isinstance(done, Done)
        assert (done.finish_reason, done.stop_text) == ("stop", stop)


def test_of_several_stop_strings_the_first_to_come_wins(engine: Engine) -> None:
    whole = collect(engine.generate(ask())).text
    late, early = whole[12:16], whole[4:7]
    completion = collect(engine.generate(ask(stop=(late, early, "☃"))))
    assert completion.text == whole[: whole.index(early)]
    assert completion.done.stop_text == early


@SCRIPTS
def test_what_was_held_back_comes_when_no_stop_string_follows(engine: Engine, text: str) -> None:
    whole = collect(engine.generate(ask(text)))
    completion = collect(engine.generate(ask(text, stop=(whole.text[-2:] + "☃",))))
    assert completion.text == whole.text
    assert completion.done.stop_text is None
    assert completion.done.finish_reason == whole.done.finish_reason


# -- limits


def test_no_tokens_is_a_request_like_any_other(engine: Engine) -> None:
    completion = collect(engine.generate(ask(max_tokens=0)))
    assert completion.text == ""
    assert completion.done.finish_reason == "length"
    assert completion.done.usage.completion_tokens == 0
    assert completion.done.usage.prompt_tokens > 0


@pytest.mark.parametrize("limit", [1, 2, 11])
def test_the_limit_is_exact(engine: Engine, limit: int) -> None:
    completion = collect(engine.generate(ask(max_tokens=limit)))
    assert completion.done.usage.completion_tokens == limit
    assert completion.done.finish_reason == "length"
    assert collect(engine.generate(ask())).text.startswith(completion.text)


def test_a_full_context_ends_the_answer(open_engine: OpenEngine) -> None:
    engine = open_engine(64)
    try:
        done = collect(engine.generate(ask("la " * 40, max_tokens=None))).done
    finally:
        engine.close()
    assert done.finish_reason == "length"
    assert done.ledger.free_tokens == 0


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers_before_anything_is_said(engine: Engine) -> None:
    for request in (ask("word " * CONTEXT_TOKENS), chat("word " * CONTEXT_TOKENS), ask("word " * 100 * CONTEXT_TOKENS)):
        with pytest.raises(ContextLengthExceeded) as caught:
            next(engine.generate(request))
        assert caught.value.n_ctx == CONTEXT_TOKENS == engine.info.context_tokens
        assert caught.value.n_prompt_tokens > CONTEXT_TOKENS
    assert collect(engine.generate(ask())).text


# -- chance


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_the_same_seed_gives_the_same_answer(engine: Engine, seed: int) -> None:
    sampling = SamplingParams(temperature=10, top_k=0, top_p=1, seed=seed)
    first, second = (collect(engine.generate(ask(sampling=sampling))) for _ in range(2))
    assert first.text == second.text
    assert first.done.seed == second.done.seed == seed


def test_other_seeds_give_other_answers(engine: Engine) -> None:
    answers = {
        collect(engine.generate(ask(sampling=SamplingParams(temperature=10, top_k=0, top_p=1, seed=seed)))).text
        for seed in range(4)
    }
    assert len(answers) == 4


def test_a_seed_that_was_drawn_is_told_and_repeats_the_answer(engine: Engine) -> None:
    hot = SamplingParams(temperature=10, top_k=0, top_p=1)
    first, second = (collect(engine.generate(ask(sampling=hot))) for _ in range(2))
    assert first.done.seed is not None
    assert first.text != second.text
    again = SamplingParams(temperature=10, top_k=0, top_p=1, seed=first.done.seed)
    assert collect(engine.generate(ask(sampling=again))).text == first.text


def test_greedy_answers_do_not_depend_on_the_seed(engine: Engine) -> None:
    answers = {collect(engine.generate(ask(sampling=SamplingParams(temperature=0, seed=seed)))).text for seed in (0, 7)}
    assert len(answers) == 1


# -- accounts


def check_accounts(engine: Engine, request: Request, completion: Completion) -> None:
    done = completion.done
    usage, ledger, timings = done.usage, done.ledger, done.timings
    assert ledger.n_ctx == engine.info.context_tokens
    assert ledger.kept_tokens == ledger.received_tokens - ledger.dropped_tokens
    assert 0 <= ledger.cached_tokens <= ledger.kept_tokens
    assert ledger.kept_tokens + ledger.generated_tokens + ledger.free_tokens == ledger.n_ctx
    assert ledger.free_tokens >= 0
    assert usage.prompt_tokens == ledger.kept_tokens
    assert usage.cached_tokens == ledger.cached_tokens
    assert usage.completion_tokens == ledger.generated_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert timings.prompt_tokens_read == usage.prompt_tokens - usage.cached_tokens
    assert timings.decode_tokens == max(usage.completion_tokens - 1, 0)
    assert min(timings.load_s, timings.queue_s, timings.prompt_s, timings.decode_s) >= 0
    assert timings.time_to_first_token_s >= timings.prompt_s
    if isinstance(engine, TokenCounter):
        assert engine.count_tokens(request) == ledger.received_tokens


@pytest.mark.parametrize(
    "request_",
    [ask(), ask(KOREAN, max_tokens=1), ask(max_tokens=0), ask(EMOJI, stop=("🙃",)), chat("hi"), chat("a", "b", "c")],
)
def test_usage_ledger_and_timings_add_up(engine: Engine, request_: Request) -> None:
    for _ in range(2):  # the second time, part of the prompt may come from a cache
        check_accounts(engine, request_, collect(engine.generate(request_)))


def test_a_cached_prompt_changes_nothing_but_the_time(engine: Engine) -> None:
    first = collect(engine.generate(chat("Tell me about the yard of a house.")))
    collect(engine.generate(ask(KOREAN)))
    again = [collect(engine.generate(chat("Tell me about the yard of a house."))) for _ in range(2)]
    assert {completion.text for completion in again} == {first.text}


# -- log-probabilities


def test_log_probabilities_are_there_only_when_asked_for(engine: Engine) -> None:
    assert collect(engine.generate(ask())).logprobs == ()


@pytest.mark.parametrize("n_top", [0, 1, 3])
def test_log_probabilities_of_a_greedy_answer(engine: Engine, n_top: int) -> None:
    completion = collect(engine.generate(ask(sampling=SamplingParams(temperature=0, logprobs=n_top))))
    unsaid = completion.done.usage.completion_tokens - len(completion.logprobs)
    assert unsaid == 0 or (unsaid == 1 and completion.done.finish_reason == "stop")  # the token that ends an answer
    assert "".join(token.text for token in completion.logprobs) == completion.text
    for token in completion.logprobs:
        assert token.logprob <= 0
        assert len(token.top) <= n_top
        assert len(token.top_texts) == len(token.top)
        assert all(better >= worse for (_, better), (_, worse) in pairwise(token.top))
        if n_top:
            assert token.top[0] == (token.token_id, token.logprob)


def test_log_probabilities_do_not_change_the_answer(engine: Engine) -> None:
    plain = collect(engine.generate(ask(KOREAN)))
    reported = collect(engine.generate(ask(KOREAN, sampling=SamplingParams(temperature=0, logprobs=2))))
    assert reported.text == plain.text


# -- one request after another


def test_leaving_an_answer_frees_the_engine_for_the_next(engine: Engine) -> None:
    whole = collect(engine.generate(ask())).text
    for n_read in (1, 2):
        with streaming(engine, ask()) as events:
            for _ in range(n_read):
                next(events)
        assert collect(engine.generate(ask())).text == whole


def test_a_stream_that_nobody_reads_holds_nothing(engine: Engine) -> None:
    unread = engine.generate(ask())
    assert collect(engine.generate(ask())).text
    del unread


def test_several_at_once_are_each_answered_in_full(engine: Engine) -> None:
    requests = [ask(f"{word} {word} {word} {word} {word}") for word in ("one", "two", "가나", "red")]
    with ThreadPoolExecutor(min(engine.info.max_concurrency, len(requests))) as threads:
        answers = list(threads.map(lambda request: collect(engine.generate(request)), requests))
    for request, completion in zip(requests, answers, strict=True):
        assert completion.text
        check_accounts(engine, request, completion)


def test_leaving_an_answer_leaves_those_beside_it_alone(engine: Engine) -> None:
    if engine.info.max_concurrency < 2:
        pytest.skip(f"the {engine.info.engine} engine runs one request at a time")
    whole = collect(engine.generate(ask())).text
    beside = engine.generate(ask())
    first = next(beside)
    with streaming(engine, ask(KOREAN)) as events:
        next(events)
    assert isinstance(first, TextDelta)
    assert first.text + collect(beside).text == whole


@pytest.mark.parametrize("request_", [ask(""), ask("\0"), ask(" "), chat(""), ask("\ufffd")])
def test_a_strange_prompt_is_answered_or_refused_and_the_next_one_works(engine: Engine, request_: Request) -> None:
    try:
        completion = collect(engine.generate(request_))
    except InvalidRequest as error:
        assert error.message
    else:
        check_accounts(engine, request_, completion)
    assert collect(engine.generate(ask())).text


# -- what it cannot do


def leave_to_the_server(engine: Engine) -> None:
    if engine.info.engine == "remote":
        pytest.skip("what a server's models can do, the server says; this one is a double")


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat("hi", adapter=AdapterChoice("nobody-loaded-this")), {"adapter", "nobody-loaded-this"}),
        (chat("hi", reasoning=True), {"reasoning"}),
        (chat("hi", tools=(Tool("look"),), tool_choice="required"), {"tools", "tool_choice"}),
    ],
    ids=["adapter", "reasoning", "tool_choice"],
)
def test_what_it_cannot_do_is_refused_before_anything_is_said(
    engine: Engine, request_: Request, param: set[str]
) -> None:
    if "adapter" not in param:
        leave_to_the_server(engine)
    with pytest.raises(InvalidRequest) as caught:
        next(engine.generate(request_))
    assert caught.value.param in param
    assert collect(engine.generate(ask())).text


@pytest.mark.parametrize(
    "constraint", [Regex("[a-f]{3,5}"), JsonSchema({"enum": ["yes", "no"]})], ids=["regex", "schema"]
)
def test_a_form_is_kept_or_refused(engine: Engine, constraint: Constraint) -> None:
    leave_to_the_server(engine)
    try:
        text = collect(engine.generate(chat("a or b?", constraint=constraint))).text
    except InvalidRequest as error:
        assert error.param == "constraint"
    else:
        assert re.fullmatch('[a-f]{3,5}|"yes"|"no"', text)


def test_a_request_may_keep_to_a_shorter_context(engine: Engine) -> None:
    n_prompt = collect(engine.generate(ask(max_tokens=0))).done.usage.prompt_tokens
    try:
        done = collect(engine.generate(ask(max_tokens=None, context_tokens=n_prompt + 4))).done
    except InvalidRequest as error:
        assert error.param == "context_tokens"
        return
    assert done.ledger.n_ctx == n_prompt + 4
    assert done.usage.completion_tokens <= 4
    with pytest.raises(ContextLengthExceeded) as caught:
        next(engine.generate(ask(context_tokens=n_prompt)))
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (n_prompt, n_prompt)


def test_closing_twice_is_fine_and_a_closed_engine_says_so(open_engine: OpenEngine) -> None:
    engine = open_engine(64)
    collect(engine.generate(ask("a b c", max_tokens=2)))
    engine.close()
    engine.close()
    with pytest.raises(MadangError):
        next(engine.generate(ask("a b c", max_tokens=2)))


def test_it_says_what_it_is(engine: Engine) -> None:
    info = engine.info
    assert info.engine
    assert info.model
    assert info.context_tokens == CONTEXT_TOKENS
    assert info.max_concurrency >= 1
    assert info.load_s >= 0
