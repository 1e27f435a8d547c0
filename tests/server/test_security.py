"""Hosts, origins, keys and shares, in front of a tiny application."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from madang.core.errors import Forbidden, InvalidRequest, ModelNotFound
from madang.server.keys import KeyFile
from madang.server.limits import Admission
from madang.server.metrics import ServerMetrics
from madang.server.scopes import check_model, is_visible
from madang.server.security import Guard, SecurityConfig, Shares, _Refusal, check_bind, check_host
from madang.server.visit import VISIT, Visit


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


Client = Callable[..., TestClient]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(keys: KeyFile, clock: Clock) -> Client:
    """Calls with a bind, hosts and origins; every path answers "reached"."""

    def make(base_url: str = "http://localhost:11434", **config: object) -> TestClient:
        async def reached(_: Request) -> Response:
            return PlainTextResponse("reached")

        methods = ["GET", "POST", "DELETE", "OPTIONS"]
        app = Starlette(routes=[Route("/{path:path}", reached, methods=methods)])
        guard = Guard(app, SecurityConfig(keys=keys, **config), clock=clock)  # type: ignore[arg-type]
        return TestClient(guard, base_url=base_url)

    return make


# -- who is let listen


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.5", "llm.example.org", ""])
def test_no_key_no_open_bind(keys: KeyFile, bind: str) -> None:
    with pytest.raises(Forbidden, match="no API key") as caught:
        check_bind(SecurityConfig(keys=keys, bind=bind))
    assert "madang keys add" in str(caught.value.hint)
    keys.add("one")
    check_bind(SecurityConfig(keys=keys, bind=bind))


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(keys: KeyFile, bind: str) -> None:
    check_bind(SecurityConfig(keys=keys, bind=bind))


# -- hosts: on every bind


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "::1", "192.168.1.5"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11434",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "localhost, evil.example",
        "local host",
        "",
        "[::1",
        "localhost:11434x",
    ],
)
def test_strange_hosts_are_refused(client: Client, bind: str, host: str) -> None:
    answer = client(bind=bind).get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert "--hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1:11434", "[::1]:8", "localhost."]
)
@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_own_names_are_answered(client: Client, bind: str, host: str) -> None:
    assert client(bind=bind).get("/", headers={"Host": host}).status_code == 200


def test_numbers_of_other_interfaces_only_when_open(client: Client) -> None:
    assert client(bind="127.0.0.1").get("/", headers={"Host": "192.168.1.5"}).status_code == 403
    assert client(bind="0.0.0.0").get("/", headers={"Host": "192.168.1.5:80"}).status_code == 200


def test_names_on_the_list_are_answered(client: Client) -> None:
    with_name = client(hosts=("LLM.example.org",))
    assert with_name.get("/", headers={"Host": "llm.example.org:443"}).status_code == 200
    assert with_name.get("/", headers={"Host": "x.llm.example.org"}).status_code == 403


@pytest.mark.parametrize("values", [[], ["localhost", "evil.example"], ["localhost", "localhost"]])
def test_one_host_exactly(keys: KeyFile, values: list[str]) -> None:
    headers = Headers(raw=[(b"host", value.encode()) for value in values])
    with pytest.raises(Forbidden):
        check_host(headers, SecurityConfig(keys=keys))


# -- origins


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "https://localhost.evil.example",
        "http://localhost:11434.evil.example",
        "file://",
        "chrome-extension://abcdef",
        "http://[",
        "http://localhost:99999999",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_others_are_refused(client: Client, method: str, origin: str) -> None:
    answer = client().request(method, "/v1/models", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:11434", "http://localhost:11434"),
        ("llm.example.org", "https://llm.example.org"),
        ("llm.example.org:443", "https://LLM.example.org"),
        ("localhost", "http://localhost"),
    ],
)
def test_own_pages_are_answered_without_cors(client: Client, host: str, origin: str) -> None:
    answer = client(hosts=("llm.example.org",)).get("/v1/models", headers={"Host": host, "Origin": origin})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_the_list_opens_for_those_on_it(client: Client) -> None:
    listed = client(origins=("https://chat.example.org", "chrome-extension://*"))
    for origin in ("https://chat.example.org", "chrome-extension://abcdef"):
        answer = listed.post("/v1/models", headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    assert listed.get("/v1/models", headers={"Origin": "https://chat.example.org.evil"}).status_code == 403


def test_preflight_allows_what_clients_send(client: Client) -> None:
    headers = {
        "Origin": "https://chat.example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-retry-count, x-evil",
    }
    answer = client(origins=("https://chat.example.org",)).options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-stainless-retry-count"
    assert answer.headers["access-control-allow-origin"] == "https://chat.example.org"


def test_preflight_needs_no_key(client: Client, keys: KeyFile) -> None:
    keys.add("one")
    headers = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST"}
    assert client(origins=("https://chat.example.org",)).options("/v1/models", headers=headers).status_code == 204


@pytest.mark.parametrize("origin", ["chat.example.org", "https://chat.example.org/", "https://a b", "", "://x"])
def test_an_origin_has_no_path(keys: KeyFile, origin: str) -> None:
    with pytest.raises(InvalidRequest):
        SecurityConfig(keys=keys, origins=(origin,))


# -- keys


def basic(secret: str) -> str:
    return "Basic " + base64.b64encode(f"someone:{secret}".encode()).decode()


FORMS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda secret: {"Authorization": f"Bearer {secret}"},
    "bearer in lower case": lambda secret: {"authorization": f"bearer {secret}"},
    "x-api-key": lambda secret: {"X-Api-Key": secret},
    "api-key": lambda secret: {"Api-Key": secret},
    "basic": lambda secret: {"Authorization": basic(secret)},
    "twice the same": lambda secret: {"Authorization": f"Bearer {secret}", "x-api-key": secret},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/api/tags", "/metrics", "/v1/messages", "/health/../api/tags"]
)
def test_every_form_of_header_is_one_decision(client: Client, keys: KeyFile, form: str, path: str) -> None:
    secret = keys.add("one")
    server = client()
    assert server.post(path).status_code == 401
    assert server.post(path, headers=FORMS[form](secret)).text == "reached"
    for wrong in (secret[:-1], secret + "x", secret.upper(), "", "한글"):
        headers = {name: value.encode() for name, value in FORMS[form](wrong).items()}
        assert server.post(path, headers=headers).status_code == 401  # type: ignore[arg-type]


def test_two_different_keys_open_nothing(client: Client, keys: KeyFile) -> None:
    one, two = keys.add("one", models=["a:*"]), keys.add("two")
    headers = {"Authorization": f"Bearer {one}", "x-api-key": two}
    assert client().get("/api/tags", headers=headers).status_code == 401


def test_a_removed_key_is_dead_at_once(client: Client, keys: KeyFile) -> None:
    keys.add("other")
    headers = {"Authorization": "Bearer " + keys.add("one")}
    server = client()
    assert server.get("/api/tags", headers=headers).status_code == 200
    KeyFile(keys.path.parent).remove("one")  # by another process
    assert server.get("/api/tags", headers=headers).status_code == 401


def test_a_damaged_file_of_keys_lets_nobody_in(client: Client, keys: KeyFile) -> None:
    headers = {"Authorization": "Bearer " + keys.add("one")}
    keys.path.write_text("{", encoding="utf-8")
    answer = client().get("/api/tags", headers=headers)
    assert answer.status_code == 500
    assert "keys add" in answer.text


@pytest.mark.parametrize("path", ["/", "/health", "/ready"])
def test_public_paths_need_no_key(client: Client, keys: KeyFile, path: str) -> None:
    keys.add("one")
    assert client().get(path).status_code == 200


def test_a_refusal_says_what_to_send(client: Client, keys: KeyFile) -> None:
    keys.add("one")
    answer = client().post("/v1/chat/completions")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "authentication_error"
    assert "Bearer" in answer.json()["error"]["message"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_header_breaks_the_door(tmp_path_factory: pytest.TempPathFactory, one: str, two: str) -> None:
    keys = KeyFile(tmp_path_factory.mktemp("keys"))
    keys.add("one")
    guard = Guard(PlainTextResponse("reached"), SecurityConfig(keys=keys))
    headers = {"Authorization": one.encode("utf-8", "replace"), "x-api-key": two.encode("utf-8", "replace")}
    answer = TestClient(guard, base_url="http://localhost").get("/api/tags", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401


# -- shares


def test_a_rate_is_a_bucket_that_fills_up(client: Client, keys: KeyFile, clock: Clock) -> None:
    headers = {"Authorization": "Bearer " + keys.add("one", requests_per_minute=2)}
    other = {"Authorization": "Bearer " + keys.add("two")}
    server = client()
    assert [server.post("/api/chat", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
    answer = server.post("/v1/chat/completions", headers=headers)
    assert answer.headers["retry-after"] == "30"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert server.post("/api/chat", headers=other).status_code == 200
    assert server.get("/api/tags", headers=headers).status_code == 200  # asking is free
    clock.now_s = 29.0
    assert server.post("/api/chat", headers=headers).status_code == 429
    clock.now_s = 30.0
    assert server.post("/api/chat", headers=headers).status_code == 200
    clock.now_s = 1000.0
    assert [server.post("/api/chat", headers=headers).status_code for _ in range(3)] == [200, 200, 429]


def test_concurrency_is_given_back(keys: KeyFile) -> None:
    keys.add("one", concurrency=1)
    key = keys.list()[0]
    shares = Shares(Clock())
    with shares.taken(key, counts=True):
        with pytest.raises(_Refusal), shares.taken(key, counts=True):
            pass
        with shares.taken(key, counts=False):
            pass
    with pytest.raises(RuntimeError), shares.taken(key, counts=True):
        raise RuntimeError
    with shares.taken(key, counts=True):
        pass


# -- models


@pytest.fixture
def scoped(keys: KeyFile) -> Iterator[Visit]:
    keys.add("one", models=["smollm2:*", "hf:org/*"])
    visit = Visit(request_id="1", metrics=ServerMetrics(), admission=Admission(), key=keys.list()[0])
    token = VISIT.set(visit)
    yield visit
    VISIT.reset(token)


@pytest.mark.parametrize("model", ["smollm2", "smollm2:135m", "SmolLM2:135M", "hf:org/repo/a.gguf"])
def test_a_scope_lets_its_models_through(scoped: Visit, model: str) -> None:
    check_model(model)
    assert scoped.model is not None


@pytest.mark.parametrize("model", ["qwen3", "hf:other/org", "xsmollm2:135m", "hf:other/smollm2"])
def test_a_scope_hides_all_others(scoped: Visit, model: str) -> None:
    with pytest.raises(ModelNotFound):
        check_model(model)
    assert scoped.model is None


@pytest.mark.parametrize("model", ["file:/etc/passwd", "/etc/passwd", "~/model.gguf", "./x.gguf", "..\\x", "x.gguf"])
@pytest.mark.parametrize("has_key", [True, False])
def test_files_cannot_be_named(scoped: Visit, model: str, has_key: bool) -> None:
    if not has_key:
        scoped.key = None
    with pytest.raises(Forbidden, match="Files"):
        check_model(model)


def test_lists_show_what_the_key_may_use(scoped: Visit) -> None:
    assert is_visible("smollm2:135m") and not is_visible("qwen3:0.6b")
    scoped.key = None
    assert is_visible("qwen3:0.6b")
