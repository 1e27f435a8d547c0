"""``madang keys``."""

from __future__ import annotations

from pathlib import Path

from madang.server.keys import KeyFile
from tests.cli.conftest import Madang


def test_a_secret_is_printed_once(madang: Madang, home: Path) -> None:
    made = madang("keys", "add", "laptop", "--models", "smollm2:*", "--models", "qwen3:*", "--rate", "30/min")
    secret = made.out.strip()
    assert made.status == 0
    key = KeyFile(home).find(secret)
    assert key is not None
    assert (key.models, key.requests_per_minute, key.concurrency) == (("smollm2:*", "qwen3:*"), 30, None)
    listed = madang("keys", "list")
    assert "laptop" in listed.out and "smollm2:* qwen3:*" in listed.out
    for text in (listed.out, made.err, madang("keys", "list", "--json").out, madang("doctor", "--json").out):
        assert secret not in text


def test_json(madang: Madang, home: Path) -> None:
    made = madang("keys", "add", "one", "--concurrency", "2", "--json").json()
    assert KeyFile(home).find(made["secret"]) is not None
    (listed,) = madang("keys", "list", "--json").json()["keys"]
    assert (listed["name"], listed["concurrency"], listed["models"]) == ("one", 2, None)
    assert listed["may_manage"] is False
    madang("keys", "add", "owner", "--manage")
    assert madang("keys", "list").out.count("yes") == 1
    assert madang("keys", "rm", "one", "--json").json() == {"removed": "one"}


def test_a_removed_key_opens_nothing(madang: Madang, home: Path) -> None:
    secret = madang("keys", "add", "one").out.strip()
    assert madang("keys", "rm", "one").status == 0
    assert KeyFile(home).find(secret) is None
    assert "madang keys add" in madang("keys", "list").err


def test_mistakes_are_told(madang: Madang) -> None:
    madang("keys", "add", "laptop")
    again, gone = madang("keys", "add", "laptop"), madang("keys", "rm", "laptip")
    assert again.status == gone.status == 2
    assert "already" in again.err and "laptop" in gone.err
    assert madang("keys", "add", "x", "--rate", "fast").status == 2
    assert madang("keys", "add", "x", "--concurrency", "0").status == 2
    assert madang("keys", "remove", "x").status == 2
    assert "MADANG_API_KEY" not in madang("doctor", MADANG_API_KEY="md-x").out
