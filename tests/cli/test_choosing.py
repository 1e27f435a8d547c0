"""``madang models``: what it prints of search and recommendation; what it decides is tested in tests/runtime."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Madang


def test_search_finds_by_korean_words(madang: Madang) -> None:
    result = madang("models", "search", "한국어", "MIT")
    header, *rows = result.out.splitlines()
    assert header.split()[:2] == ["NAME", "PARAMETERS"]
    assert "midm:2.0-mini" in [row.split()[0] for row in rows]
    assert "smollm2:135m" not in result.out
    models = madang("models", "search", "한국어", "MIT", "--json").json()["models"]
    assert [model["name"] for model in models] == [row.split()[0] for row in rows]


def test_search_without_a_hit_says_where_all_are(madang: Madang) -> None:
    result = madang("models", "search", "nonsense")
    assert (result.status, result.out) == (0, "")
    assert "madang list --catalog" in result.err


def test_a_recommendation_for_people(madang: Madang) -> None:
    result = madang(
        "models", "recommend", "--task", "코딩", "--memory", "4GB", "--license", "commercial", "--limit", "3"
    )
    header, *rows = result.out.splitlines()
    assert header.split()[:3] == ["NAME", "TYPE", "MEMORY"]
    assert len(rows) == 3
    assert "madang run " in result.err
    assert "Left out:" in result.err
    assert "doubling" in result.err


def test_a_recommendation_for_programs(madang: Madang) -> None:
    document = madang(
        "models", "recommend", "--task", "embedding", "--memory", "2GB", "--language", "ko", "--json"
    ).json()
    assert document["wish"]["task"] == "embedding"
    assert document["wish"]["memory_bytes"] == 2_000_000_000
    names = [model["name"] for model in document["models"]]
    assert "multilingual-e5:small" in names
    assert all(model["memory_bytes"] <= 2_000_000_000 for model in document["models"])
    assert document["left_out"]["another task"] > 0


def test_nothing_does_all_of_that(madang: Madang) -> None:
    result = madang("models", "recommend", "--memory", "1MB")
    assert (result.status, result.out) == (0, "")
    assert "No model of the catalog does all of that." in result.err
    assert "by memory" in result.err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--task", "poetry"], "no task named 'poetry'"),
        (["--license", "mitt"], "no licence named 'mitt'"),
        (["--memory", "much"], "'much' is not a size"),
        (["--engine", "vllm"], "named 'vllm'"),
        (["--type", "Q9"], "named 'Q9'"),
        (["--context", "0"], "has to be 1 or more"),
        (["--limit", "0"], "limit"),
    ],
)
def test_mistakes_are_one_sentence(madang: Madang, args: list[str], complaint: str) -> None:
    result = madang("models", "recommend", *args)
    assert result.status != 0
    assert complaint in result.err
    assert result.out == ""
