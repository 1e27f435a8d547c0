"""What is the echo engine's own; everything that all engines promise is in tests/conformance."""

from __future__ import annotations

import pytest

from madang.core import AdapterChoice, EngineInfo, Message, Regex, Request, SamplingParams, TextDelta, Tool, collect
from madang.core.errors import EngineError, InvalidRequest
from madang.engines.echo import EchoEngine


def ask(text: str, **options: object) -> Request:
    return Request(messages=(Message("user", text),), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["hello", "마당 🙂 한글", "", "a" * 1000, "👩‍👩‍👧‍👦"])
def test_it_repeats_the_last_message(text: str) -> None:
    request = Request(messages=(Message("system", "be an echo"), Message("user", text)))
    completion = collect(EchoEngine().generate(request))
    assert completion.text == text
    assert completion.done.finish_reason == "stop"


def test_it_repeats_a_raw_prompt() -> None:
    assert collect(EchoEngine().generate(Request(prompt="raw"))).text == "raw"


def test_its_tokens_cut_characters_and_it_still_sends_whole_ones() -> None:
    pieces = [event.text for event in EchoEngine().generate(ask("한글🙂")) if isinstance(event, TextDelta)]
    assert "".join(pieces) == "한글🙂"
    assert len(pieces) > 1
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_token_whose_character_the_limit_cut_is_reported_and_not_shown() -> None:
    cut = collect(EchoEngine().generate(ask("ab한", max_tokens=2, sampling=SamplingParams(temperature=0, logprobs=0))))
    assert (cut.text, len(cut.logprobs), cut.done.finish_reason) == ("ab", 2, "length")


def test_a_repeated_prompt_is_cached_but_for_its_last_token() -> None:
    engine = EchoEngine()
    first = collect(engine.generate(ask("the same again"))).done.usage
    second = collect(engine.generate(ask("the same again"))).done.usage
    assert first.cached_tokens == 0
    assert second.cached_tokens == second.prompt_tokens - 1


def test_the_answer_ends_with_the_context() -> None:
    done = collect(EchoEngine(context_tokens=40).generate(ask("x" * 60))).done
    assert done.finish_reason == "length"
    assert done.ledger.free_tokens == 0


def test_a_bias_changes_the_choice() -> None:
    engine = EchoEngine()
    report = collect(engine.generate(ask("abcdef", sampling=SamplingParams(logprobs=5)))).logprobs[0]
    other = next(token_id for token_id, _ in report.top if token_id != report.token_id)
    biased = SamplingParams(temperature=0, logit_bias={other: 100})
    assert collect(engine.generate(ask("abcdef", sampling=biased))).text != "abcdef"


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}])
def test_filters_undo_a_high_temperature(narrow: dict[str, float]) -> None:
    sampling = SamplingParams.from_mapping({"temperature": 100, "top_k": 0, "top_p": 1.0, **narrow})
    assert collect(EchoEngine().generate(ask("said as it was", sampling=sampling))).text == "said as it was"


@pytest.mark.parametrize(
    "options",
    [
        {"constraint": Regex("a+")},
        {"tools": (Tool("look"),), "tool_choice": "required"},
        {"tools": (Tool("look"),), "tool_choice": "look"},
        {"reasoning": True},
        {"adapter": AdapterChoice("mine")},
    ],
    ids=str,
)
def test_what_no_echo_can_do_is_refused(options: dict[str, object]) -> None:
    engine = EchoEngine()
    with pytest.raises(InvalidRequest, match="only repeats") as caught:
        next(engine.generate(ask("one", **options)))
    assert caught.value.param in options
    assert collect(engine.generate(ask("two", reasoning=False))).text == "two"


def test_a_request_may_have_a_context_of_its_own() -> None:
    done = collect(EchoEngine().generate(ask("x" * 60, context_tokens=40))).done
    assert (done.finish_reason, done.ledger.n_ctx, done.ledger.free_tokens) == ("length", 40, 0)


def test_it_runs_one_request_at_a_time() -> None:
    engine = EchoEngine()
    running = engine.generate(ask("one"))
    next(running)
    with pytest.raises(EngineError, match="busy"):
        next(engine.generate(ask("two")))


def test_it_says_what_it_is() -> None:
    assert EchoEngine("twin", 12).info == EngineInfo(engine="echo", model="twin", context_tokens=12)
    assert EchoEngine().count_tokens(ask("hello")) == len("user: hello\n") // 2
