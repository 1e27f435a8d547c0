"""``/v1/rerank``."""

from __future__ import annotations

import math
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
    assert body["madang"] == {"method": "cosine"}


def test_a_cross_encoder_says_how_well_each_fits(client: TestClient) -> None:
    body = rank(client, model="agreement", documents=["zzz", "abc", "aab", "zz"]).json()
    assert [result["index"] for result in body["results"]] == [2, 1, 0, 3]
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == pytest.approx([1 / (1 + math.exp(-n)) for n in (3, 2, 0, 0)])
    assert body["usage"]["total_tokens"] == 4 * 2 + 11
    assert body["madang"] == {"method": "cross-encoder"}


def test_documents_that_a_cross_encoder_cuts_are_told(client: TestClient) -> None:
    [warning] = rank(client, model="agreement", documents=["a" * 21, "ab"]).json()["madang"]["warnings"]
    assert "1 document is longer" in warning
    [warning] = rank(client, model="agreement", documents=["a" * 30] * 70).json()["madang"]["warnings"]
    assert "70 documents are" in warning


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions"])
def test_a_cross_encoder_does_nothing_else(client: TestClient, path: str) -> None:
    body = {"model": "agreement", "input": "a", "messages": [{"role": "user", "content": "a"}]}
    fields = ("model", "input") if path.endswith("embeddings") else ("model", "messages")
    response = client.post(path, json={field: body[field] for field in fields})
    assert response.status_code == 400
    assert "how well texts fit a query" in response.json()["error"]["message"]


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
