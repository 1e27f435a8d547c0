"""``madang export``: what it writes and prints, what it refuses, and that a running server has what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.core.settings import load_settings
from madang.models import Store
from madang.runtime.pool import Pool
from madang.server import ServerState
from madang.server.app import create_app
from tests.cli.conftest import Madang

tiny = pytest.importorskip("tests.training.exporting.tiny")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.write_base(tmp_path_factory.mktemp("export") / "base")
    return folder


@pytest.fixture
def run(madang: Madang, base: Path, home: Path) -> str:
    """The id of a run that trained an adapter of a model in the store."""
    assert madang("convert", str(base), "mine:base", "--dtype", "f32").status == 0
    folder = home / "runs" / "ko-1"
    tiny.write_adapter(base, folder / "adapter")
    tiny.edit_json(folder / "adapter" / "adapter_config.json", base_model_name_or_path="mine:base")
    (folder / "base.json").write_text(json.dumps({"model": "mine:base"}))
    (folder / "result.json").write_text(json.dumps({"training": {"steps": 3}}))
    return "ko-1"


def test_a_run_as_files(madang: Madang, run: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = madang("export", run, "--to", "gguf:f16", "--to", "card", "--out", str(out), "--threads", "1", "--json")
    assert result.status == 0, result.err
    document = result.json()
    assert [own["kind"] for own in document["exports"]] == ["gguf:F16", "card"]
    assert document["exports"][0]["parity"]["agreement"] == 1.0
    assert "Comparing" not in result.out
    assert {path.name for path in out.iterdir()} == {
        "ko-1-F16.gguf",
        "ko-1-F16.gguf.certificate.json",
        "README.md",
    }
    assert "| training.steps | `3` |" in (out / "README.md").read_text()


def test_a_model_that_is_not_what_was_trained(madang: Madang, run: str, tmp_path: Path) -> None:
    result = madang("export", run, "--to", "gguf:q4_0", "--out", str(tmp_path / "out"), "--threads", "1")
    assert (result.status, result.out) == (1, "")
    assert "nothing was kept" in result.err
    assert not (tmp_path / "out").exists()


def test_a_server_answers_with_the_adapter_without_a_restart(
    madang: Madang, run: str, home: Path, tmp_path: Path
) -> None:
    """Base and adapter by their names, over HTTP, from one copy of the base's weights."""
    settings = load_settings({"home": home, "threads": 1, "context": 256, "describe": False}, {})
    question = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 12}
    pool = Pool(settings)
    with TestClient(
        create_app(ServerState(pool=pool, store=Store(home), settings=settings)), base_url="http://localhost"
    ) as client:

        def answer(model: str) -> str:
            response = client.post("/v1/chat/completions", json={"model": model, **question})
            assert response.status_code == 200, response.text
            return str(response.json()["choices"][0]["message"]["content"])

        plain = answer("mine:base")
        kept = madang(
            "export", run, "--to", "adapter", "--as", "mine:ko", "--out", str(tmp_path / "out"), "--threads", "1"
        )
        assert kept.status == 0, kept.err
        assert "madang run mine:ko" in kept.err
        tuned = answer("mine:ko")
        assert tuned != plain
        assert answer("mine:base") == plain
    whole = madang(
        "export", run, "--to", "gguf:f32", "--as", "mine:whole", "--out", str(tmp_path / "two"), "--threads", "1"
    )
    assert whole.status == 0, whole.err
    said = madang("run", "mine:whole", "hello", "--temperature", "0", "--max-tokens", "12", "--context", "256")
    assert said.status == 0, said.err
    assert said.out.strip() == tuned.strip()


def test_an_adapter_whose_base_is_not_in_the_store(madang: Madang, run: str, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("export", run, "--base", str(base), "--to", "adapter", "--as", "mine:ko", "--out", str(out))
    result = madang(*args)
    assert result.status == 1
    assert "--base smollm2:135m" in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "Nothing was asked for"),
        (("--to", "gguff"), "gguf"),
        (("--to", "card", "--public"), "--push"),
        (("--to", "adapter", "--as", "./here"), "not a name"),
        (("--to", "modelfile"), "needs a GGUF file"),
    ],
)
def test_what_makes_no_sense(madang: Madang, run: str, tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    result = madang("export", run, *args, "--out", str(tmp_path / "out"), "--threads", "1")
    assert result.status in (1, 2)
    assert words in result.err
