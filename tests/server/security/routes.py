"""Every route of the application with what it takes, read from the application itself: a new one is tested unasked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

MESSAGES = [{"role": "user", "content": "hello"}]
# What makes a body whole, so that the value under test is what decides.
VALUES: Mapping[str, Any] = {
    "messages": MESSAGES,
    "input": "hello",
    "query": "hello",
    "documents": ["hello"],
    "content": "hello",
    "prompt": "hello",
    "max_tokens": 5,
    "source": "echo",
    "models": ["echo"],
    "destination": "other",
}
EMBEDS = ("/v1/embeddings", "/v1/rerank", "/api/embed", "/api/embeddings")


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path; ``fields`` of its JSON body with their schemas, ``required`` of them."""

    method: str
    path: str
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of what stands in the path."""
        return tuple(part.partition("}")[0].partition(":")[0] for part in self.path.split("{")[1:])

    def url(self, value: str = "x", *, safe: str = "/:%") -> str:
        """The path with ``value`` for each of its parameters."""
        path = self.path
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + quote(value, safe=safe) + rest.partition("}")[2]
        return path

    def body(self, **values: Any) -> dict[str, Any] | None:
        """A body that is answered, but for ``values``; None where no body is taken."""
        if not self.fields:
            return None
        model = "letters" if f"/v1{self.path}" in EMBEDS or self.path in EMBEDS else "echo"
        return {name: VALUES.get(name, model) for name in self.required} | values

    def send(self, client: TestClient, *, url: str | None = None, **more: Any) -> Any:
        """Ask, with a body if one is taken."""
        more.setdefault("json", self.body())
        return client.request(self.method, self.url() if url is None else url, **more)


def operations(app: FastAPI) -> list[Operation]:
    """Every one, also those that the OpenAPI document leaves out because another path is the same."""
    document = app.openapi()
    found = []
    for route in iter_route_contexts(app.routes):
        for method in sorted(route.methods or ()):
            path = str(route.path)
            shown = path.replace(":path}", "}")
            described = document["paths"].get(shown) or document["paths"].get(f"/v1{shown}") or {}
            fields, required = _body(document, described.get(method.lower(), {}))
            found.append(Operation(method, path, fields, required))
    assert len({(one.method, one.path) for one in found}) == len(found) > 40
    return found


def _body(document: Mapping[str, Any], described: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    content = described.get("requestBody", {}).get("content", {})
    schema = resolved(document, content.get("application/json", {}).get("schema", {}))
    return dict(schema.get("properties", {})), tuple(schema.get("required", ()))


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def numbers(document: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Path and schema of each number in a body, at any depth."""
    yield from _numbers(document, {"type": "object", "properties": fields}, (), frozenset())


def _numbers(
    document: Mapping[str, Any], schema: Mapping[str, Any], place: tuple[str, ...], seen: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    name = schema.get("$ref", "")
    if name in seen:
        return
    seen |= {name} - {""}
    schema = resolved(document, schema)
    if schema.get("type") in ("integer", "number"):
        yield place, dict(schema)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _numbers(document, part, place, seen)
    for key, part in schema.get("properties", {}).items():
        yield from _numbers(document, part, (*place, key), seen)
    if isinstance(schema.get("items"), Mapping):
        yield from _numbers(document, schema["items"], (*place, "[]"), seen)
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _numbers(document, schema["additionalProperties"], (*place, "{}"), seen)
