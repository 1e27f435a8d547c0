"""Whatever value a field has, the answer is an answer or a refusal: never a fault of ours."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.server.reference import ENDPOINTS

DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]

STRANGE: list[Any] = [
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**30,
    1e308,
    -0.0,
    "",
    "x",
    "\x00",
    "file:/etc/passwd",
    "가" * 300,
    [],
    [[]],
    [0],
    [None],
    [""],
    ["x", "y"],
    [{}],
    [{"type": "text"}],
    [{"type": "function"}],
    [{"role": "user", "content": [{}]}],
    [{"role": "tool", "content": None}],
    [{"role": "assistant", "content": "", "tool_calls": [{}]}],
    {},
    {"type": "json_schema"},
    {"type": "json_schema", "json_schema": {"schema": {"type": 5}}},
    {"type": "json_schema", "json_schema": {"schema": None}},
    {"format": {"type": "json_schema", "schema": {"$ref": "#"}}},
    {"type": "function", "function": {}},
    {"5": 1, "x": 2},
    {"5": 10**400},
    DEEP,
]  # fmt: skip

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/rerank": {"query": "hello", "documents": ["hello"]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hello"}]},
    "/tokenize": {"content": "hello"},
    "/detokenize": {"tokens": [1]},
}


@pytest.mark.parametrize("endpoint", [endpoint for endpoint, _ in ENDPOINTS])
def test_no_value_of_a_field_is_a_fault(client: TestClient, endpoint: str) -> None:
    path, wire = endpoint.split()[1], dict(ENDPOINTS)[endpoint]
    model = "letters" if path in ("/v1/embeddings", "/v1/rerank") else "echo"
    for name in [*wire.model_fields, *wire.IGNORED, *wire.REFUSED, "unknown"]:
        for value in STRANGE:
            response = client.post(path, json={"model": model, **BODIES[path], name: value})
            assert response.status_code < 500, (name, value, response.text)
            if response.status_code != 200:
                assert isinstance(response.json()["error"]["message"], str)
