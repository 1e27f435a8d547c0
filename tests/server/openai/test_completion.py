"""``/v1/completions``: raw texts, in the older shape."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from madang.core import TextDelta, TokenLogprob
from tests.server.conftest import Script
from tests.server.doubles import done


def complete(client: TestClient, **body: Any) -> httpx.Response:
    return client.post("/v1/completions", json={"model": "echo", "prompt": "hello", **body})


def test_an_answer_has_the_schema_of_a_completion(client: TestClient) -> None:
    body = complete(client).json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}]


def test_unless_told_otherwise_it_ends_after_sixteen_tokens(client: TestClient) -> None:
    body = complete(client, prompt="x" * 90).json()
    assert body["usage"]["completion_tokens"] == 16
    assert body["choices"][0]["finish_reason"] == "length"
    assert complete(client, max_tokens=20, prompt="x" * 90).json()["usage"]["completion_tokens"] == 20


def test_prompts_times_answers(client: TestClient) -> None:
    body = complete(client, prompt=["one", "two"], n=2, echo=True).json()
    assert [choice["text"] for choice in body["choices"]] == ["oneone", "oneone", "twotwo", "twotwo"]
    once = complete(client, prompt=["one", "two"]).json()
    assert body["usage"]["prompt_tokens"] == once["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 5, "n": 4}, "prompt"),
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = complete(client, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_probabilities_have_offsets(client: TestClient, script: Script) -> None:
    tokens = tuple(TokenLogprob(i, text, -1.0, ((i, -1.0),), (text,)) for i, text in enumerate(("ab", "c")))
    script(TextDelta("ab", tokens[:1]), TextDelta("c", tokens[1:]), done())
    whole = complete(client, model="scripted", logprobs=1).json()["choices"][0]["logprobs"]
    assert whole == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -1.0],
        "top_logprobs": [{"ab": -1.0}, {"c": -1.0}],
        "text_offset": [0, 2],
    }


def test_a_stream_ends_with_its_usage(client: TestClient) -> None:
    response = complete(client, stream=True, echo=True, stream_options={"include_usage": True})
    *pieces, last, end = response.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    chunks = [json.loads(piece.removeprefix("data: ")) for piece in pieces]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "hellohello"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] > 0
