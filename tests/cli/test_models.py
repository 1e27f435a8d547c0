"""``list``, ``show``, ``rm`` and ``pull`` on a store with a model in it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from madang.models import Manifest, ManifestFile, NameReference, Store
from madang.models.fetching import StagedFile
from tests.cli.conftest import Madang

NAME = "starter:test"


@pytest.fixture
def stored(home: Path, starter_gguf: Path) -> Path:
    """The starter model's file in the store under another name, as a pull leaves it."""
    digest = starter_gguf.name.removeprefix("sha256-")
    size_bytes = starter_gguf.stat().st_size
    store = Store(home)
    staged = store.partial_path(NameReference("starter", "test")) / "model.gguf"
    staged.parent.mkdir(parents=True)
    staged.hardlink_to(starter_gguf)
    manifest = Manifest(
        reference=NameReference("starter", "test"),
        format="gguf",
        source="a test",
        files=(ManifestFile("model.gguf", size_bytes, f"sha256:{digest}"),),
        modified=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    return store.commit(manifest, [StagedFile("model.gguf", staged, size_bytes, digest)]).path


def test_an_empty_store_says_how_to_get_a_model(madang: Madang) -> None:
    result = madang("list")
    assert (result.status, result.out) == (0, "")
    assert "madang pull smollm2:135m" in result.err
    assert madang("list", "--json").json() == {"models": []}


def test_list(madang: Madang, stored: Path) -> None:
    header, row = madang("list").out.splitlines()
    assert header.split() == ["NAME", "SIZE", "FORMAT", "MODIFIED"]
    assert row.split()[:4] == [NAME, "98.4", "MB", "gguf"]
    assert madang("list", "--json").json() == {
        "models": [
            {
                "name": NAME,
                "format": "gguf",
                "size_bytes": 98_362_432,
                "modified": "2026-01-02T03:04:05+00:00",
                "source": "a test",
                "path": str(stored),
            }
        ]
    }


def test_the_catalog(madang: Madang) -> None:
    models = {model["name"]: model for model in madang("list", "--catalog", "--json").json()["models"]}
    starter = models["smollm2:135m"]
    assert starter["parameters"] == 134_515_008
    assert "temperature" in starter["sampling_defaults"]
    assert None not in starter["sampling_defaults"].values()
    assert starter["is_here"] is False
    rows = [line.split() for line in madang("list", "--catalog").out.splitlines()]
    assert ["smollm2:135m", "135M", "8192", "general", "en", "Apache-2.0", "yes"] in rows
    assert (starter["task"], starter["tasks"], starter["commercial"]) == ("chat", ["general"], "yes")


def test_show(madang: Madang, stored: Path) -> None:
    document = madang("show", NAME, "--json").json()
    assert document["name"] == NAME
    assert document["path"] == str(stored)
    assert document["architecture"] == "llama"
    assert document["parameters"] == 134_515_008
    assert document["tokenizer"] == {"kind": "gpt2", "pre": "smollm", "vocabulary": 49_152}
    assert sum(row["tensors"] for row in document["tensor_types"]) == 272
    assert document["tensor_types"][0]["type"] == "Q4_1"
    assert len(document["chat_template_sha256"]) == len(sha256().hexdigest())
    native = document["native"]
    assert (native["runs"], native["family"], native["makes"]) == (True, "llama", "answers")
    assert native["context"] == 8192
    told = madang("show", NAME).out
    for fact in ("98.4 MB", "135M (134515008)", "pre smollm", "Q4_1", "llama, makes answers"):
        assert fact in told


def test_show_reads_a_file_anywhere(madang: Madang, stored: Path) -> None:
    assert madang("show", f"file:{stored}", "--json").json()["architecture"] == "llama"


def test_show_says_why_a_model_does_not_run_here(madang: Madang, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "state.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    result = madang("show", str(tmp_path / "state.gguf"), "--json")
    assert result.status == 0
    assert result.json()["native"]["runs"] is False
    assert "state-space layers" in result.json()["native"]["because"]
    assert "does not run it: " in madang("show", str(tmp_path / "state.gguf")).out


@pytest.mark.parametrize("verb", ["show", "rm"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("starter:tset", f"Did you mean {NAME}"), ("file:nowhere.gguf", ""), ("smollm2:135m", "")],
)
def test_a_model_that_is_not_here(madang: Madang, stored: Path, verb: str, name: str, hint: str) -> None:
    result = madang(verb, name)
    assert result.status > 0
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert hint in result.err


def test_show_says_how_to_get_a_model_that_is_known(madang: Madang) -> None:
    assert madang("show", "smollm2").err.splitlines()[-1] == "Get it with: madang pull smollm2:135m"


def test_a_damaged_file_is_a_sentence(madang: Madang, tmp_path: Path, starter_gguf: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(starter_gguf.read_bytes()[:1000])
    result = madang("show", str(damaged))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"Error: {damaged} is not a valid model file: ")


def test_rm_deletes_and_says_what_was_freed(madang: Madang, stored: Path) -> None:
    assert madang("rm", NAME, "--json").json() == {"removed": NAME, "freed_bytes": 98_362_432}
    assert not stored.exists()
    assert madang("list").out == ""
    assert madang("rm", NAME).status == 1


def test_rm_leaves_files_alone_that_are_not_in_the_store(madang: Madang, starter_gguf: Path) -> None:
    result = madang("rm", f"file:{starter_gguf}")
    assert (result.status, result.out) == (2, "")
    assert "is not in the store" in result.err


def test_pull_of_a_model_that_is_here_only_says_so(madang: Madang, stored: Path) -> None:
    result = madang("pull", NAME)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{NAME}  98.4 MB  {stored}\n"
    assert madang("pull", NAME, "--json").json()["path"] == str(stored)


def test_pull_of_an_unknown_model_suggests_one(madang: Madang, home: Path) -> None:
    result = madang("pull", "smolm2:135m")
    assert result.status == 1
    assert result.err.splitlines()[1].startswith("Did you mean smollm2:135m")
    assert not home.exists()
