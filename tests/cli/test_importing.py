"""``madang import`` beside other programs' stores, and ``pull`` with a checksum."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Madang
from tests.models.standins import sha256
from tests.models.test_neighbours import GGUF, hub_cache, ollama_store
from tests.models.web import Web


def test_nothing_to_import(madang: Madang) -> None:
    result = madang("import")
    assert (result.status, result.out) == (0, "")
    assert "madang import --from PATH" in result.err
    assert madang("import", "--from", "/nowhere/at/all").status == 2


def test_a_list_says_size_engine_and_owner(madang: Madang, tmp_path: Path, starter_gguf: Path) -> None:
    model = tmp_path / "models" / "starter.gguf"
    model.parent.mkdir()
    model.symlink_to(starter_gguf)
    (tmp_path / "models" / "cut.gguf").write_bytes(GGUF[:12])
    result = madang("import", "--from", str(model.parent))
    header, cut, row = result.out.splitlines()
    assert header.split() == ["NAME", "SIZE", "ENGINE", "FROM", "HERE"]
    assert row.split()[:4] == ["starter:latest", "98.4", "MB", "native"]
    assert cut.split()[:4] == ["cut:latest", "12", "B", "-"]
    assert "cut:latest: " in result.err
    (document,) = (
        entry for entry in madang("import", "--from", str(model), "--json").json()["models"] if entry["problem"] is None
    )
    assert (document["engine"], document["size_bytes"], document["is_here"]) == ("native", 98_362_432, False)


def test_import_by_name_and_all_of_them(madang: Madang, tmp_path: Path) -> None:
    hub_cache(tmp_path / "hf", "org/repo", {"m.gguf": GGUF})
    ollama_store(tmp_path / "ollama", {"model": GGUF + b"2"})
    places = {"HF_HUB_CACHE": str(tmp_path / "hf"), "OLLAMA_MODELS": str(tmp_path / "ollama")}
    result = madang("import", "hf:org/repo/m.gguf", **places)
    assert result.status == 0 and "stays where the Hugging Face cache has it" in result.out
    assert [model["name"] for model in madang("list", "--json").json()["models"]] == ["hf:org/repo/m.gguf"]
    assert madang("import", "--from", "ollama", "--all", "--as", "mine:1", **places).status == 0
    assert len(madang("list", "--json").json()["models"]) == 2
    missing = madang("import", "hf:org/repo/n.gguf", **places)
    assert missing.status != 0 and "Did you mean hf:org/repo/m.gguf" in missing.err
    assert "0 B freed" in madang("rm", "mine:1").out
    assert (tmp_path / "ollama" / "blobs" / f"sha256-{sha256(GGUF + b'2')}").is_file()


def test_a_file_that_vanished(madang: Madang, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(GGUF)
    assert madang("import", "--from", str(model), "--all").status == 0
    model.unlink()
    for verb in (["run", "m:latest", "hi"], ["show", "m:latest"], ["pull", "m:latest"]):
        result = madang(*verb)
        assert result.status != 0
        assert f"m:latest uses {model}, which is gone since it was imported." in result.err
        assert "madang rm m:latest" in result.err
    assert madang("rm", "m:latest").status == 0


def test_a_checksum_on_the_command_line(madang: Madang) -> None:
    with Web({"/m.gguf": GGUF}).running() as web:
        url = f"{web.url}/m.gguf"
        wrong = madang("pull", url, "--sha256", "0" * 64)
        assert wrong.status != 0 and "checksum" in wrong.err
        assert madang("pull", url, "--sha256", sha256(GGUF).upper(), "--json").json()["size_bytes"] == len(GGUF)
        bare = madang("pull", url)
        assert bare.status == 0 and f"#sha256={sha256(GGUF)}" in bare.err
    assert madang("pull", "smollm2:135m", "--sha256", "0" * 64).status == 2


def test_offline(madang: Madang) -> None:
    result = madang("pull", "hf:org/repo", MADANG_OFFLINE="1")
    assert result.status != 0
    assert "hf:org/repo is not on this machine" in result.err and "MADANG_OFFLINE" in result.err
