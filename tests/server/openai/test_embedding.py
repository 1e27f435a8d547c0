"""``/v1/embeddings``."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient


def embed(client: TestClient, **body: Any) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": "letters", "input": "abba", **body})


def test_one_vector_per_text(client: TestClient) -> None:
    body = embed(client, input=["a", "bb"] * 100).json()
    assert body["object"] == "list"
    assert [row["index"] for row in body["data"]] == list(range(200))
    assert body["data"][1]["embedding"][:3] == [0.0, 2.0, 0.0]
    assert body["usage"] == {"prompt_tokens": 300, "total_tokens": 300}


def test_base64_is_float32_with_the_lowest_byte_first(client: TestClient) -> None:
    text = embed(client, encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack("<26f", base64.b64decode(text))[:3] == (2.0, 2.0, 0.0)


def test_fewer_dimensions_keep_the_length_and_are_told(client: TestClient) -> None:
    body = embed(client, dimensions=2).json()
    assert body["data"][0]["embedding"] == pytest.approx([math.sqrt(0.5)] * 2)
    assert "dimensions" in body["madang"]["warnings"][0]
    assert "madang" not in embed(client, dimensions=26).json()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"dimensions": 27}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": "echo"}, "model"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = embed(client, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_text_that_is_too_long(client: TestClient) -> None:
    error = embed(client, input=["a", "x" * 51]).json()["error"]
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 51, 50)
