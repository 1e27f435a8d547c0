"""Comparisons over HTTP, with something that only seems to measure."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.server import ServerState
from madang.server.comparisons import Comparisons
from madang.server.keys import KeyFile
from tests.server.security.conftest import bearer
from tests.server.security.test_rights import keep


@dataclass
class Measuring:
    """Goes on to the next step when it is let; ``plans`` are those it was given."""

    go_on: threading.Event = field(default_factory=threading.Event)
    at_work: threading.Event = field(default_factory=threading.Event)
    plans: list[Any] = field(default_factory=list)

    def __call__(self, entrants: Any, settings: Any, plan: Any, *, tell: Any) -> dict[str, Any]:
        self.plans.append(plan)
        tell(entrants[0].label, 1, 4)
        self.at_work.set()
        assert self.go_on.wait(30)
        tell(entrants[1].label, 4, 4)
        models = [
            {"label": one.label, "model": one.contestant.reference, "answers": [{"prompt": "p", "text": "t"}]}
            for one in entrants
        ]
        return {
            "made_at": "2026-01-01T00:00:00+00:00",
            "steps": {"done": 3, "kept_from_before": 1},
            "measured_on": {"prompts": ["p"]},
            "models": models,
        }


@pytest.fixture
def measuring(client: TestClient, state: ServerState) -> Iterator[Measuring]:
    keep(state.store, "a:1b")
    keep(state.store, "b:1b")
    double = Measuring()
    client.app.state.comparisons = Comparisons(state.settings, double)  # type: ignore[attr-defined]
    yield double
    double.go_on.set()


def ask(client: TestClient, method: str, path: str = "", status: int = 200, **more: Any) -> Any:
    answer = client.request(method, f"/madang/v1/comparisons{path}", **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def over(client: TestClient, id: str, **more: Any) -> Any:
    while (found := ask(client, "GET", f"/{id}", **more))["state"] == "measuring":
        time.sleep(0.01)
    return found


def test_a_comparison_from_beginning_to_end(client: TestClient, measuring: Measuring) -> None:
    assert ask(client, "GET") == {"comparisons": []}
    body = {"models": ["a:1b", "b:1b"], "prompts": ["p"], "repetitions": 1, "text": False}
    id = ask(client, "POST", status=202, json=body)["id"]
    assert measuring.at_work.wait(30)
    running = ask(client, "GET", f"/{id}")
    assert (running["state"], running["at_work"], running["n_done"], running["n_steps"]) == ("measuring", "a:1b", 1, 4)
    assert running["result"] is None
    assert ask(client, "POST", status=503, json=body)["error"]["code"] == "overloaded"
    measuring.go_on.set()
    found = over(client, id)
    assert (found["state"], found["models"]) == ("done", ["a:1b", "b:1b"])
    assert found["result"]["models"][0]["answers"] == [{"prompt": "p", "text": "t"}]
    assert [one["id"] for one in ask(client, "GET")["comparisons"]] == [id]
    assert (measuring.plans[0].prompts, measuring.plans[0].n_runs, measuring.plans[0].text) == (("p",), 1, None)
    assert ask(client, "DELETE", f"/{id}") == {"id": id}
    ask(client, "GET", f"/{id}", 404)


def test_one_that_is_cancelled(client: TestClient, measuring: Measuring) -> None:
    id = ask(client, "POST", status=202, json={"models": ["a:1b", "b:1b"]})["id"]
    assert measuring.at_work.wait(30)
    ask(client, "DELETE", f"/{id}")
    measuring.go_on.set()
    found = over(client, id)
    assert (found["state"], found["error"]["code"]) == ("cancelled", "comparison_cancelled")


def test_what_is_refused(client: TestClient, measuring: Measuring) -> None:
    for body in (
        {"models": []},
        {"models": ["a:1b"] * 9},
        {"models": ["a:1b", "a:1b"]},
        {"models": ["a:1b"], "repetitions": -1},
        {"models": ["a:1b"], "prompts": [""]},
        {"models": ["a:1b"], "text": False, "repetitions": 0},
        {"models": ["file:/etc/passwd"]},
        {"models": ["a:1b@nothing"]},
    ):
        ask(client, "POST", status=400, json=body)
    ask(client, "POST", status=404, json={"models": ["a:1b", "nothing:1b"]})
    ask(client, "GET", "/..%2F..%2Fkeys", 404)
    assert measuring.plans == []


def test_who_sees_what(client: TestClient, measuring: Measuring, state: ServerState, tmp_path: Path) -> None:
    keys = KeyFile(state.settings.home)
    owner, user = bearer(keys.add("owner", may_manage=True)), bearer(keys.add("user"))
    narrow = bearer(keys.add("narrow", models=["a:*"], may_manage=True))
    measuring.go_on.set()
    id = ask(client, "POST", status=202, json={"models": ["a:1b", "b:1b"]}, headers=owner)["id"]
    over(client, id, headers=owner)
    assert ask(client, "GET", f"/{id}", headers=user)["result"]["models"][0]["answers"] == []
    assert ask(client, "GET", headers=narrow)["comparisons"] == []
    for method in ("GET", "DELETE"):
        ask(client, method, f"/{id}", 404, headers=narrow)
    ask(client, "POST", status=403, json={"models": ["a:1b"]}, headers=user)
    path = f"file:{tmp_path}/secret/tiny.gguf"
    document = {**client.app.state.comparisons.results.get(id).document}  # type: ignore[attr-defined]
    document["models"] = [{"label": "tiny.gguf", "model": path, "answers": []}]
    of_file = client.app.state.comparisons.results.keep(document)  # type: ignore[attr-defined]
    assert "secret" not in str(ask(client, "GET", f"/{of_file}", headers=user))
