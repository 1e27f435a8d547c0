"""``/v1/rerank``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient


def rank(client: TestClient, **body: Any) -> httpx.Response:
    documents = ["zzz", "abc", {"text": "aab"}]
    return client.post("/v1/rerank", json={"model": "letters", "query": "ab", "documents": documents, **body})


def test_the_closest_is_first(client: TestClient) -> None:
    body = rank(client).json()
    assert [result["index"] for result in body["results"]] == [2, 1, 0]
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == pytest.approx([3 / 10**0.5, 2 / 6**0.5, 0])
    assert body["usage"]["total_tokens"] == 11


def test_only_so_many_and_with_their_text(client: TestClient) -> None:
    [result] = rank(client, top_n=1, return_documents=True).json()["results"]
    assert result["document"] == {"text": "aab"}
    assert len(rank(client, top_n=9).json()["results"]) == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [{"title": "x"}]}, "documents.0"),
        ({"top_n": 0}, "top_n"),
        ({"query": None}, "query"),
        ({"model": "echo"}, "model"),
        ({"max_tokens_per_doc": 5}, "max_tokens_per_doc"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = rank(client, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
