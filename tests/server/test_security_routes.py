"""Hostile files behind the real application, and what the source may not do. Routes, names and keys: ./security."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.core import Loaded
from madang.core.settings import Settings, load_settings
from madang.models import Manifest, ManifestFile, Store, StoredReference, parse_reference
from madang.runtime import open_model
from madang.server import ServerState
from madang.server.app import create_app
from tests.formats.malformed.gguf_files import DEFECTS, Defect

SOURCE = Path(__file__).resolve().parents[2] / "src" / "madang"

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
        assert "sha256-{" not in text or path.name == "digests.py", path
        stores = ("store.py", "ollama_store.py")  # ours, and the one of a neighbour, which is only read
        assert path.name in stores or not any(word in text for word in ('"blobs"', '"manifests"')), path


def test_the_server_fetches_no_url() -> None:
    clients = {"requests", "httpx", "urllib.request", "aiohttp", "urllib3", "http.client"}
    for path in sorted((SOURCE / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not clients & set(names), f"{path.name}: {names}"
