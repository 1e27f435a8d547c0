"""Bounds on every field, and that the real application refuses what breaks them with the field's name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from madang.core.errors import InvalidRequest
from madang.server import limits

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("field", limits.COUNTS)
def test_counts_end_at_their_limit(field: str) -> None:
    most = limits.COUNTS[field]
    limits.check_fields({field: ["x"] * most})
    with pytest.raises(InvalidRequest) as caught:
        limits.check_fields({field: ["x"] * (most + 1)})
    assert caught.value.param == field and str(most) in caught.value.message


@pytest.mark.parametrize("field", limits.RANGES)
def test_numbers_stay_in_their_range(field: str) -> None:
    low, high = limits.RANGES[field]
    for value in (low, high):
        limits.check_range(field, value)
    for value in (low - 1, high + 1, -(2**63), 2**64, True, 10**5000):
        with pytest.raises(InvalidRequest) as caught:
            limits.check_range(field, value)
        assert caught.value.param == field and len(caught.value.message) < 200
    limits.check_range(field, None)


@pytest.mark.parametrize("field", limits.CHARACTERS)
def test_texts_have_a_length(field: str) -> None:
    limits.check_fields({field: "x" * limits.CHARACTERS[field]})
    with pytest.raises(InvalidRequest):
        limits.check_fields({field: "x" * (limits.CHARACTERS[field] + 1)})


def test_schemas_have_a_size_and_a_depth() -> None:
    limits.check_schema(nested(limits.SCHEMA_DEPTH))
    for schema in (
        nested(limits.SCHEMA_DEPTH + 1),
        nested(500_000),
        {"enum": ["x" * limits.SCHEMA_CHARACTERS]},
        {"anyOf": [{}] * limits.SCHEMA_NODES},
        [],
        "string",
        None,
    ):
        with pytest.raises(InvalidRequest):
            limits.check_schema(schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.sampled_from([*limits.COUNTS, *limits.RANGES, *limits.CHARACTERS, "format", "response_format", "tools"])


@given(st.dictionaries(FIELDS, JSON, max_size=6) | JSON)
def test_any_body_is_checked_or_refused(body: object) -> None:
    try:
        limits.check_fields(body)
    except InvalidRequest as error:
        assert error.param


# -- through the application


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": CHAT["messages"] * 5000}, "messages"),  # type: ignore[operator]
        ({"n": 1_000_000}, "n"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": ["x"] * 1000}, "stop"),
        ({"stop": ["x" * 10_000]}, "stop"),
        ({"logit_bias": {str(i): 1 for i in range(5000)}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 1000}, "logprobs"),
        ({"model": "x" * 10_000}, "model"),
        ({"temperature": 1e9}, "temperature"),
        ({"seed": -(2**70)}, "seed"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 1000}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(100)}}]}, "tools"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(100)}}},
            "response_format",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_breaks_a_bound_is_refused_by_name(client: TestClient, changes: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT | changes)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert len(answer.text) < 1000
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200  # still serving


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"n": ' + b"9" * 100_000 + b"}",
        b"\xff\xfe",
        b"",
        b"null",
        b'{"model": NaN}',
        b'{"messages": "\\ud800"}',
        b'{"model": 1, "model": 2}',
    ],
    ids=range(9),
)
def test_no_body_is_a_fault(client: TestClient, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        answer = client.post(path, content=body)
        assert 400 <= answer.status_code < 500, (path, answer.text)


def test_a_file_of_the_server_is_no_model(client: TestClient) -> None:
    for model in ("file:/etc/passwd", "/etc/passwd", "../../etc/passwd", "file:.", "~root/x"):
        answer = client.post("/v1/chat/completions", content=json.dumps(CHAT | {"model": model}))
        assert answer.status_code in (400, 403, 404), answer.text
        assert "No such file" not in answer.text
