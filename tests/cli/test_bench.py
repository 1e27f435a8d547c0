"""``madang bench``, on the engine that needs no model."""

from __future__ import annotations

from tests.cli.conftest import Madang

SHORT = ("bench", "twin", "--engine", "echo", "--prompt-tokens", "32", "--decode-tokens", "8")


def test_json_has_the_keys_that_programs_rely_on(madang: Madang) -> None:
    document = madang(*SHORT, "--json").json()
    assert list(document) == ["model", "engine", "threads", "isa", "prompt", "decode", "time_to_first_token_s"]
    assert (document["model"], document["engine"]) == ("twin", "echo")
    for step in ("prompt", "decode"):
        rate = document[step]["tokens_per_s"]
        assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert document[step]["tokens"] >= 8
    assert document["decode"]["tokens"] == 8


def test_people_get_a_table(madang: Madang) -> None:
    title, header, prompt, decode = madang(*SHORT, "--repetitions", "1").out.splitlines()
    assert title == "twin · echo engine · 1 run"
    assert header.split() == ["TOKENS", "TOKENS/S", "MIN", "MAX"]
    assert prompt.startswith("prompt")
    assert decode.split()[:2] == ["decode", "8"]
