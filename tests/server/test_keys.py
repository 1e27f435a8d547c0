"""The file of API keys: what it keeps, who can read it, and that two writers lose nothing."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, MadangError, UnknownOption
from madang.server.keys import KeyFile, read_rate


def test_a_secret_is_nowhere_in_the_file(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    secret = keys.add("laptop", models=["smollm2:*"], requests_per_minute=30, concurrency=2)
    assert len(secret) >= 43
    for path in tmp_path.rglob("*"):
        assert secret not in path.read_text(encoding="utf-8")
        assert secret.removeprefix("md-") not in path.read_text(encoding="utf-8")
    found = KeyFile(tmp_path).find(secret)
    assert found is not None
    assert (found.name, found.models, found.requests_per_minute, found.concurrency) == ("laptop", ("smollm2:*",), 30, 2)


def test_no_two_secrets_are_alike(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    secrets = {name: keys.add(name) for name in "abc"}
    assert len(set(secrets.values())) == 3
    for name, secret in secrets.items():
        found = keys.find(secret)
        assert found is not None and found.name == name
    assert keys.find("") is None


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyFile(tmp_path).add("one")
        KeyFile(tmp_path).add("two")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    writers = [threading.Thread(target=KeyFile(tmp_path).add, args=(f"key-{i}",)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [key.name for key in KeyFile(tmp_path).list()] == [f"key-{i}" for i in range(8)]


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "한글", "x" * 65, "-x", 'a"b', "a\nb"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        KeyFile(tmp_path).add(name)
    assert KeyFile(tmp_path).list() == ()


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    first = keys.add("one")
    with pytest.raises(InvalidRequest, match="already"):
        keys.add("one")
    assert keys.find(first) is not None


def test_limits_make_sense(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    with pytest.raises(InvalidRequest):
        keys.add("one", requests_per_minute=0)
    with pytest.raises(InvalidRequest):
        keys.add("one", concurrency=-1)
    with pytest.raises(InvalidRequest):
        keys.add("one", models=[])
    with pytest.raises(InvalidRequest):
        keys.add("one", models=["a\nb"])


def test_what_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.add("laptop")
    with pytest.raises(UnknownOption) as caught:
        keys.remove("laptip")
    assert "laptop" in str(caught.value.hint)
    keys.remove("laptop")
    assert keys.list() == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"schema": 3, "keys": []}',
        '{"schema": 1, "keys": [{}]}',
        '{"schema": 1, "keys": [{"name": "a", "sha256": "short", "created": "2026-01-01"}]}',
        '{"schema": 1, "keys": 3}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    keys = KeyFile(tmp_path)
    keys.add("one")
    keys.path.write_text(text, encoding="utf-8")
    for _ in range(2):  # not only the first time
        with pytest.raises(MadangError, match="not a file of API keys"):
            keys.list()


def test_a_key_uses_models_unless_it_may_manage(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.add("user")
    keys.add("owner", may_manage=True)
    assert {key.name: key.may_manage for key in KeyFile(tmp_path).list()} == {"user": False, "owner": True}


def test_keys_from_before_there_were_rights_keep_what_they_could(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    secret = keys.add("old")
    record = json.loads(keys.path.read_text(encoding="utf-8"))
    record["schema"] = 1
    for row in record["keys"]:
        del row["may_manage"]
    keys.path.write_text(json.dumps(record), encoding="utf-8")
    keys.add("new")
    found = KeyFile(tmp_path).find(secret)
    assert found is not None and found.may_manage
    assert {key.name: key.may_manage for key in KeyFile(tmp_path).list()} == {"old": True, "new": False}
    assert json.loads(keys.path.read_text(encoding="utf-8"))["schema"] == 2


def test_patterns_match_as_shells_do(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    keys.add("one", models=["smollm2:*", "hf:org/*", "exact:1"])
    key = keys.list()[0]
    assert key.may_use("smollm2:135m") and key.may_use("hf:org/repo/file.gguf") and key.may_use("exact:1")
    assert not key.may_use("exact:12") and not key.may_use("qwen3:0.6b") and not key.may_use("Smollm2:135m")


def test_rates() -> None:
    assert read_rate("30") == read_rate("30/min") == 30
    for wrong in ("0", "-1", "30/s", "", "x", "1.5", "30/min\n"):
        with pytest.raises(InvalidRequest):
            read_rate(wrong)
