"""What a request, its messages and its sampling parameters refuse."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core import SAMPLING_DEFAULTS, Message, Request, SamplingParams
from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.request import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from madang.core.sampling import SAMPLING_LIMITS

HELLO = (Message("user", "hello"),)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({}, "messages"),
        ({"messages": HELLO, "prompt": "hello"}, "messages"),
        ({"messages": HELLO, "max_tokens": -1}, "max_tokens"),
        ({"messages": HELLO, "stop": ("",)}, "stop"),
        ({"messages": HELLO, "stop": ("x" * (MAX_STOP_CHARACTERS + 1),)}, "stop"),
        ({"messages": HELLO, "stop": ("x",) * (MAX_STOP_STRINGS + 1)}, "stop"),
    ],
)
def test_a_request_that_makes_no_sense_names_the_parameter(options: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request(**options)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_zero_and_empty_are_values() -> None:
    assert Request(messages=HELLO, max_tokens=0).max_tokens == 0
    assert Request(prompt="").prompt == ""


def test_a_role_that_does_not_exist() -> None:
    with pytest.raises(InvalidRequest, match="'owner' is not a role"):
        Message("owner", "hello")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLING_LIMITS)
def test_limits_are_inclusive_and_enforced(name: str) -> None:
    low, high = SAMPLING_LIMITS[name]
    for value in (low, high):
        assert getattr(SamplingParams.from_mapping({name: value}), name) == value
    for value in (low - 1, high + 1 if high < 2**53 else high * 2, float("nan")):
        with pytest.raises(InvalidRequest) as caught:
            SamplingParams.from_mapping({name: value})
        assert caught.value.param == name


def test_an_unknown_sampling_option_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UnknownOption) as caught:
        SamplingParams.from_mapping({"temprature": 1})
    assert caught.value.hint == "Did you mean temperature?"


@given(own=st.none() | st.integers(0, 100), model=st.none() | st.integers(0, 100))
def test_unset_falls_to_the_model_then_to_the_defaults_and_zero_is_set(own: int | None, model: int | None) -> None:
    resolved = SamplingParams(top_k=own).resolved(SamplingParams(top_k=model))
    expected = own if own is not None else model if model is not None else SAMPLING_DEFAULTS.top_k
    assert resolved.top_k == expected


def test_only_what_is_meant_to_stay_unset_has_no_default() -> None:
    unset = {field.name for field in fields(SamplingParams) if getattr(SAMPLING_DEFAULTS, field.name) is None}
    assert unset == {"seed", "logit_bias", "logprobs"}
    assert SamplingParams(seed=0).resolved().seed == 0
