from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import InvalidRequest, NotEnoughMemory, UnknownOption
from madang.formats.spec import DecoderSpec, RopeSpec
from madang.hardware import (
    Machine,
    PlanRequest,
    estimate_weights_bytes,
    fitting_tokens,
    kv_cache_bytes,
    make_plan,
)
from madang.hardware.memory import working_bytes
from madang.hardware.plan import PREFILL_CHUNK_TOKENS

GB = 10**9
ROPE = RopeSpec("half", tuple(0.1 for _ in range(32)))
# The shape of SmolLM2-135M.
SPEC = DecoderSpec(
    architecture="llama",
    n_layers=30,
    n_embd=576,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    n_ff=1536,
    vocab_size=49152,
    context_tokens=8192,
    norm_epsilon=1e-5,
    ropes=(ROPE,) * 30,
    window_tokens=(0,) * 30,
)
MACHINE = Machine("Linux", "x86_64", physical_cores=4, logical_cores=8, ram_available_bytes=16 * GB)


@dataclass(frozen=True)
class Files:
    name: str = "smollm2:135m"
    size_bytes: int = 98_362_432


def with_free(room_bytes: int) -> Machine:
    """A machine with so much left beside the weights."""
    fixed = estimate_weights_bytes(Files().size_bytes) + working_bytes(SPEC, PREFILL_CHUNK_TOKENS)
    return replace(MACHINE, ram_available_bytes=fixed + room_bytes)


def test_cache_size_is_exact() -> None:
    # 30 layers, 3 heads of 64, keys and values, 2 bytes: 23,040 bytes a token
    assert kv_cache_bytes(SPEC, 8192) == 8192 * 23_040
    assert kv_cache_bytes(SPEC, 0) == 0
    assert kv_cache_bytes(SPEC, 1) == 16 * 23_040  # one page
    # 1 byte, and 4 for each of 2 + 1 scales
    assert kv_cache_bytes(SPEC, 17, kv_type="int8") == 32 * (11_520 + 30 * 3 * 3 * 4)


def test_windows_bound_the_cache() -> None:
    spec = replace(SPEC, n_layers=2, window_tokens=(0, 64))
    page = 16 * 2 * 2 * 3 * 64
    assert kv_cache_bytes(spec, 1024) == (64 + 6) * page  # the window touches 5, and one is kept before it
    assert kv_cache_bytes(spec, 1024, step_tokens=65) == (64 + 10) * page
    assert kv_cache_bytes(spec, 32) == (2 + 2) * page
    plan = make_plan(spec, Files(), MACHINE, PlanRequest(prefill_chunk_tokens=65, context_tokens=1024))
    assert plan.memory is not None
    assert plan.memory.kv_cache_bytes == kv_cache_bytes(spec, 1024, step_tokens=65)


@pytest.mark.parametrize("windows", [(0,), (0, 64), (64,)])
@given(st.integers(-(10**9), 10**10), st.sampled_from(("f16", "int8")))
def test_the_fitting_context_is_the_longest(windows: tuple[int, ...], room_bytes: int, kv_type: str) -> None:
    spec = replace(SPEC, window_tokens=(windows * 30)[:30])
    tokens = fitting_tokens(spec, room_bytes, kv_type=kv_type, step_tokens=64)
    fits, more = (kv_cache_bytes(spec, n, kv_type=kv_type, step_tokens=64) for n in (tokens, tokens + 1))
    assert fits <= max(room_bytes, 0)
    assert more > room_bytes or tokens == spec.context_tokens


def test_defaults() -> None:
    plan = make_plan(SPEC, Files(), MACHINE)
    assert (plan.threads.value, plan.context_tokens.value, plan.isa.value) == (4, 8192, "auto")
    assert plan.prefill_chunk_tokens.value > 0
    assert "physical core" in plan.threads.reason
    assert plan.memory is not None
    assert plan.memory.kv_cache_bytes == 8192 * 23_040
    assert plan.memory.total_bytes > 98_362_432 + 8192 * 23_040


def test_requests_are_honoured() -> None:
    plan = make_plan(SPEC, Files(), MACHINE, PlanRequest(8, 100, "avx2", 32, "fast"))
    choices = (plan.threads, plan.context_tokens, plan.isa, plan.precision, plan.prefill_chunk_tokens)
    assert [choice.value for choice in choices] == [8, 100, "avx2", "fast", 32]
    assert {choice.reason for choice in choices} == {"as requested"}


@pytest.mark.parametrize(
    ("requested", "numbers"),
    [
        (PlanRequest(threads=0), ["0", "8"]),
        (PlanRequest(threads=9), ["9", "8"]),
        (PlanRequest(context_tokens=0), ["0", "8192"]),
        (PlanRequest(context_tokens=8193), ["8193", "8192"]),
        (PlanRequest(prefill_chunk_tokens=0), ["0", "1"]),
    ],
)
def test_what_makes_no_sense_is_refused(requested: PlanRequest, numbers: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_plan(SPEC, Files(), MACHINE, requested)
    assert all(number in caught.value.message for number in numbers)


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        make_plan(SPEC, Files(), replace(MACHINE, ram_available_bytes=100_000_000))
    assert caught.value.available_bytes == 100_000_000
    assert caught.value.needed_bytes > 200_000_000
    with pytest.raises(NotEnoughMemory):
        make_plan(SPEC, Files(), with_free(kv_cache_bytes(SPEC, 256) - 1))


def test_a_context_that_does_not_fit_is_shortened_with_a_reason() -> None:
    plan = make_plan(SPEC, Files(), with_free(kv_cache_bytes(SPEC, 1000)))
    assert plan.context_tokens.value == 768
    assert "8192" in plan.context_tokens.reason
    assert "189 MB" in plan.context_tokens.reason


def test_a_requested_context_that_does_not_fit_is_refused_with_what_would() -> None:
    machine = with_free(kv_cache_bytes(SPEC, 1000))
    assert make_plan(SPEC, Files(), machine, PlanRequest(context_tokens=1000)).context_tokens.value == 1000
    with pytest.raises(NotEnoughMemory) as caught:
        make_plan(SPEC, Files(), machine, PlanRequest(context_tokens=4096))
    assert "4096" in caught.value.message
    assert "768" in (caught.value.hint or "")


def test_unknown_memory_refuses_nothing() -> None:
    plan = make_plan(SPEC, Files(size_bytes=10**15), Machine("?", "?"), PlanRequest(threads=300))
    assert plan.context_tokens.value == 8192
    assert make_plan(SPEC, Files(), Machine("?", "?")).threads.value == 1


def test_a_short_model_is_planned_whole() -> None:
    plan = make_plan(replace(SPEC, context_tokens=100), Files(), MACHINE)
    assert (plan.context_tokens.value, plan.prefill_chunk_tokens.value) == (100, 100)


def test_a_container_explains_itself() -> None:
    machine = replace(MACHINE, physical_cores=1, cpu_limit=1.5)
    choice = make_plan(SPEC, Files(), machine).threads
    assert (choice.value, choice.reason) == (1, "the container is limited to 1.5 processors")


def test_the_kind_of_cache_is_chosen_and_counted() -> None:
    default, small = (make_plan(SPEC, Files(), MACHINE, PlanRequest(kv_type=kind)) for kind in (None, "int8"))
    assert default.kv_type.value == "f16"
    assert "half of the memory" in default.kv_type.reason
    assert (small.kv_type.value, small.kv_type.reason) == ("int8", "as requested")
    assert small.memory is not None
    assert small.memory.kv_cache_bytes == kv_cache_bytes(SPEC, 8192, kv_type="int8") < 0.56 * 8192 * 23_040
    assert small.kv_limit_bytes.value == 4 * small.memory.kv_cache_bytes
    room = with_free(kv_cache_bytes(SPEC, 1000))
    longer = make_plan(SPEC, Files(), room, PlanRequest(kv_type="int8", context_tokens=1800))
    assert longer.context_tokens.value == 1800
    with pytest.raises(UnknownOption, match="no kind of cache named 'q4'"):
        make_plan(SPEC, Files(), MACHINE, PlanRequest(kv_type="q4"))


@given(room=st.integers(0, 10**9), requested=st.none() | st.integers(1, 8192), kv_type=st.sampled_from((None, "int8")))
def test_a_plan_always_fits(room: int, requested: int | None, kv_type: str | None) -> None:
    machine = with_free(room)
    try:
        plan = make_plan(SPEC, Files(), machine, PlanRequest(context_tokens=requested, kv_type=kv_type))
    except NotEnoughMemory as error:
        assert error.needed_bytes > error.available_bytes
        return
    assert plan.memory is not None
    assert machine.ram_available_bytes is not None
    assert plan.memory.total_bytes <= machine.ram_available_bytes
    assert 1 <= plan.context_tokens.value <= SPEC.context_tokens


def test_the_cache_holds_several_contexts_where_memory_allows() -> None:
    context = kv_cache_bytes(SPEC, 8192)
    assert make_plan(SPEC, Files(), MACHINE).kv_limit_bytes.value == 4 * context
    assert make_plan(SPEC, Files(), Machine("?", "?")).kv_limit_bytes.value == 4 * context
    tight = make_plan(SPEC, Files(), with_free(3 * context)).kv_limit_bytes
    assert tight.value == 3 * context // 2
    assert "free beside the weights" in tight.reason
    assert make_plan(SPEC, Files(), with_free(context)).kv_limit_bytes.value == context


def test_a_limit_of_the_cache_is_honoured_or_refused_with_the_numbers() -> None:
    context = kv_cache_bytes(SPEC, 8192)
    plan = make_plan(SPEC, Files(), MACHINE, PlanRequest(kv_limit_bytes=2 * context))
    assert (plan.kv_limit_bytes.value, plan.context_tokens.value) == (2 * context, 8192)
    small = make_plan(SPEC, Files(), MACHINE, PlanRequest(kv_limit_bytes=context // 8))
    assert (small.context_tokens.value, small.context_tokens.reason) == (1024, "what the cache's limit holds")
    with pytest.raises(InvalidRequest, match="but one context takes 189 MB"):
        make_plan(SPEC, Files(), MACHINE, PlanRequest(kv_limit_bytes=context // 8, context_tokens=8192))
    with pytest.raises(NotEnoughMemory):
        make_plan(SPEC, Files(), with_free(2 * context), PlanRequest(kv_limit_bytes=3 * context))


def test_concurrency_and_speculation() -> None:
    plan = make_plan(SPEC, Files(), MACHINE)
    assert plan.max_concurrency.value > 1
    assert plan.speculation.value == "ngram"
    for word in ("off", "ngram", "draft:smollm2"):
        assert make_plan(SPEC, Files(), MACHINE, PlanRequest(speculation=word)).speculation.value == word
    for word in ("draft:", "draft", "on", "ngrams"):
        with pytest.raises(UnknownOption):
            make_plan(SPEC, Files(), MACHINE, PlanRequest(speculation=word))
    assert make_plan(SPEC, Files(), MACHINE, PlanRequest(max_concurrency=3)).max_concurrency.value == 3
    with pytest.raises(InvalidRequest, match="concurrency is 0"):
        make_plan(SPEC, Files(), MACHINE, PlanRequest(max_concurrency=0))
