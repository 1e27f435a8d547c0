"""Every route of the real application, through the same door; hostile names and hostile files behind it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from madang.core import Loaded
from madang.core.settings import Settings, load_settings
from madang.models import Manifest, ManifestFile, Store, StoredReference, parse_reference
from madang.runtime import open_model
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.keys import KeyFile
from madang.server.security import PUBLIC_PATHS
from tests.formats.malformed.gguf_files import DEFECTS, Defect

SOURCE = Path(__file__).resolve().parents[2] / "src" / "madang"
HOSTILE = (
    "..",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "sha256:../../../etc/passwd",
    "sha256:" + "0" * 63,
    "sha256-" + "0" * 64 + "/../../x",
    "file:/etc/passwd",
    "/etc/passwd",
    "~root/.ssh/id_rsa",
    "C:\\windows\\win.ini",
    "a\x00b",
    "con",
    "x" * 5000,
    "hf:../..",
    "한글/../..",
)


def operations(client: TestClient) -> list[tuple[str, str]]:
    """Method and path of every route, as the application's own document lists them."""
    paths = create_app(client.app.state.server).openapi()["paths"]  # type: ignore[attr-defined]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) > 8
    return found


def filled(path: str, value: str = "x") -> str:
    """The path with ``value`` for each of its parameters."""
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + quote(value, safe="/:%") + rest.partition("}")[2]
    return path


def test_no_route_has_a_side_door(client: TestClient, tmp_path: Path) -> None:
    KeyFile(tmp_path).add("one")
    for method, path in [*operations(client), ("GET", "/openapi.json"), ("POST", "/chat/completions"), ("GET", "/x")]:
        url = filled(path)
        assert client.request(method, url, headers={"Host": "evil.example"}).status_code == 403, path
        assert client.request(method, url, headers={"Origin": "https://evil.example"}).status_code == 403, path
        refused = client.request(method, url).status_code
        assert (refused == 401) == (path not in PUBLIC_PATHS), path


def test_no_name_in_a_path_leaves_the_store(client: TestClient) -> None:
    for method, path in operations(client):
        if "{" in path:
            for value in HOSTILE:
                answer = client.request(method, filled(path, value))  # some of them are paths of other routes
                assert answer.status_code < 500, (path, value, answer.text)
                assert "root:" not in answer.text


def files(folder: Path) -> list[Path]:
    """All but the database, which has one name and no other."""
    return sorted(path for path in folder.rglob("*") if not path.name.startswith("madang.db"))


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_in_a_body_leaves_the_store(client: TestClient, tmp_path: Path, value: str) -> None:
    before = files(tmp_path)
    for method, path in operations(client):
        # What is pulled goes out to a registry, which these tests do not; its names are read by the same function.
        if method in ("POST", "DELETE", "PUT") and "pull" not in path:
            body: dict[str, Any] = dict.fromkeys(["model", "name", "source", "destination", "from", "prompt"], value)
            body |= {"input": "a", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}], "stream": False}
            if path.endswith("responses"):
                del body["prompt"]
            answer = client.request(method, filled(path), json=body)
            assert answer.status_code < 500, (path, value, answer.text)
            assert "{" in path or answer.status_code >= 400, (path, value, answer.text)
            assert "root:" not in answer.text and "BEGIN" not in answer.text
    assert files(tmp_path) == before


# -- hostile files, through everything that loads a model


class OpeningPool:
    """Opens a model anew for each lease, as the command line does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        with closing(open_model(reference, self._settings)) as engine:
            yield engine

    def unload(self, reference: str) -> bool:
        return False

    def resident(self) -> list[object]:
        return []

    def close(self) -> None:
        pass


@pytest.mark.parametrize("defect", DEFECTS[::4], ids=lambda defect: defect.name)
def test_a_hostile_file_is_one_sentence_and_the_server_serves_on(tmp_path: Path, defect: Defect) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(defect.content)
    status = file.stat()
    reference = parse_reference("hostile:1b")
    assert isinstance(reference, StoredReference)
    store = Store(tmp_path)
    weights = ManifestFile("model.gguf", status.st_size, path=str(file), modified_ns=status.st_mtime_ns)
    store.commit(Manifest(reference, "gguf", "test", (weights,), datetime.now(UTC)))
    settings = load_settings({"context": 64, "threads": 1}, {"MADANG_HOME": str(tmp_path)})
    state = ServerState(pool=OpeningPool(settings), store=store, settings=settings)
    client = TestClient(create_app(state), base_url="http://localhost", raise_server_exceptions=False)
    body = {"model": "hostile:1b", "messages": [{"role": "user", "content": "a"}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code in (422, 500)
    assert answer.json()["error"]["code"] in ("malformed_file", "unsupported_model")
    assert str(tmp_path) not in answer.text
    assert client.get("/health").status_code == 200


def test_the_corpus_has_what_others_fell_for() -> None:
    names = " ".join(defect.name for defect in DEFECTS)
    assert len(DEFECTS) >= 10
    for word in ("offset past the end", "offset overflow", "tensors overlap", "cut off"):
        assert word in names, word


# -- what the source may not do


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_runs_what_it_reads(path: Path) -> None:
    for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert words.get("allow_pickle", "False") == "False", f"{name}, line {call.lineno}"
        assert name not in {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "jsonpickle.decode"}
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"line {call.lineno}"
        assert words.get("verify", "True") != "False", f"{name}, line {call.lineno}"
        assert "_create_unverified_context" not in name


def test_one_function_makes_paths_of_names() -> None:
    """Of the store's root only ``_inside`` takes anything but words that stand in the source."""
    tree = ast.parse((SOURCE / "models" / "store.py").read_text(encoding="utf-8"))
    makers = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_inside"]
    assert len(makers) == 1
    allowed = {id(node) for node in ast.walk(makers[0])}
    n_seen = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.left) == "self.root":
            n_seen += 1
            assert isinstance(node.right, ast.Constant), f"line {node.lineno}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "self.root.joinpath" and id(node) not in allowed:
            n_seen += 1
            assert all(isinstance(word, ast.Constant) for word in node.args), f"line {node.lineno}"
    assert n_seen > 2
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert path.name == "store.py" or not any(word in text for word in ('"blobs"', '"manifests"', "sha256-{")), path


def test_the_server_fetches_no_url() -> None:
    clients = {"requests", "httpx", "urllib.request", "aiohttp", "urllib3", "http.client"}
    for path in sorted((SOURCE / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not clients & set(names), f"{path.name}: {names}"
