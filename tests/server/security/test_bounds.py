"""Every number in a request has bounds: the document states them, and what is outside is a 400 that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from madang.models.parameters import LIMITS, SAMPLING
from tests.server.ollama.conftest import Named
from tests.server.security.routes import Operation, numbers

# Numbers without bounds of their own -> why that is harmless.
FREE: Mapping[str, str] = {
    "logit_bias.{}": "keys are checked as token ids, values against core.sampling.MOST_BIAS",
    "prompt.[]": "token ids, refused where a tokenizer does not know them",
    "prompt.[].[]": "token ids, refused where a tokenizer does not know them",
    "tokens.[]": "token ids, refused where a tokenizer does not know them",
    "input.[]": "token ids, refused as those of another tokenizer",
    "input.[].[]": "token ids, refused as those of another tokenizer",
    "thinking.budget_tokens": "ignored, with a warning",
}
HUGE = (2**31, 2**53, 2**63, 2**64, 10**30)
EXTREMES = (*HUGE, *(-value for value in HUGE), -1, 0, 1e308, -1e308, 1e-320, 0.5)


def inside(place: tuple[str, ...], value: Any) -> Any:
    """The value of a body's field, with ``value`` deep in it."""
    for step in reversed(place[1:]):
        value = [value] if step == "[]" else {"5" if step == "{}" else step: value}
    return value


def numeric(app: FastAPI, routes: list[Operation]) -> Iterator[tuple[Operation, tuple[str, ...], dict[str, Any]]]:
    for route in routes:
        for place, schema in numbers(app.openapi(), route.fields):
            yield route, place, schema


def test_the_document_bounds_every_number(app: FastAPI, routes: list[Operation]) -> None:
    found = list(numeric(app, routes))
    assert len(found) > 40
    for route, place, schema in found:
        if ".".join(place) not in FREE:
            assert {"minimum", "maximum"} <= schema.keys(), (str(route), place)
            assert abs(schema["minimum"]) < 2**64 and schema["maximum"] <= 2**64, (str(route), place)


def test_numbers_outside_are_refused_by_name(client: TestClient, app: FastAPI, routes: list[Operation]) -> None:
    for route, place, schema in numeric(app, routes):
        if ".".join(place) in FREE:
            continue
        low = schema["minimum"] - (1 if abs(schema["minimum"]) < 2**53 else 2**12)  # the document has them as floats
        for value in (low, schema["maximum"] + 2**12, -(2**64), 10**30):
            value = int(value) if schema["type"] == "integer" else value
            answer = route.send(client, json=route.body(**{place[0]: inside(place, value)}))
            assert answer.status_code == 400, (str(route), place, value, answer.text)
            error = answer.json()["error"]
            assert place[0] in error.get("param", error["message"]) or place[0] in error["message"], (place, error)


def test_no_number_is_a_fault(client: TestClient, app: FastAPI, routes: list[Operation]) -> None:
    for route, place, _ in numeric(app, routes):
        for value in EXTREMES:
            answer = route.send(client, json=route.body(**{place[0]: inside(place, value)}))
            assert answer.status_code < 500, (str(route), place, value, answer.text)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_is_refused_wherever_it_stands(
    client: TestClient, app: FastAPI, routes: list[Operation], word: str
) -> None:
    for route, place, _ in numeric(app, routes):
        text = json.dumps(route.body(**{place[0]: inside(place, "HERE")})).replace('"HERE"', word)
        answer = route.send(client, json=None, content=text)
        assert answer.status_code == 400, (str(route), place, word, answer.text)


# -- Ollama's bodies, whose document says nothing of types


@pytest.mark.parametrize("name", [*SAMPLING, *LIMITS])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_every_option_has_bounds(client: TestClient, path: str, name: str) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "a"}], "prompt": "a", "stream": False}
    del body["prompt" if path == "/api/chat" else "messages"]
    for value in EXTREMES:
        answer = client.post(path, json={**body, "options": {name: value}})
        assert answer.status_code in (200, 400), (name, value, answer.text)
        if value in (10**30, -1e308):
            assert answer.status_code == 400 or (name, value) in NEGATIVE_IS_NONE, (name, value, answer.text)
    for word in ("NaN", "Infinity", "1e999"):
        text = json.dumps({**body, "options": {name: "HERE"}}).replace('"HERE"', word)
        assert client.post(path, content=text).status_code == 400, (name, word)


NEGATIVE_IS_NONE = {("seed", -1e308)}  # draws one, as in llama.cpp


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"])
def test_no_value_of_a_field_is_a_fault(client: TestClient, routes: list[Operation], pool: Named, path: str) -> None:
    (route,) = (one for one in routes if one.path == path)
    for field in route.fields:
        for value in (*EXTREMES, [], {}, "", "x" * 1000, [[]], [{}], True, {"a": [2**63]}, "-9" * 20, f"{10**30}h"):
            answer = route.send(client, json=route.body(**{field: value, "stream": False}))
            assert answer.status_code < 500, (path, field, value, answer.text)
        for word in ("NaN", "-Infinity"):
            text = json.dumps(route.body(**{field: "HERE"})).replace('"HERE"', word)
            assert client.post(path, content=text).status_code == 400, (path, field, word)
    kept_s = [keep_alive_s for _, keep_alive_s in pool.leased if keep_alive_s is not None]
    assert all(keep_alive_s == keep_alive_s and keep_alive_s < 1e12 for keep_alive_s in kept_s if keep_alive_s > 0)


def test_as_many_answers_as_a_million_are_refused_before_anything_runs(client: TestClient, pool: Named) -> None:
    for n in (17, 1_000_000, 2**63):
        for path in ("/v1/chat/completions", "/v1/completions"):
            body = {"model": "echo", "n": n, "messages": [{"role": "user", "content": "a"}], "prompt": "a"}
            del body["prompt" if "chat" in path else "messages"]
            assert client.post(path, json=body).json()["error"]["param"] == "n"
    assert pool.leased == []
