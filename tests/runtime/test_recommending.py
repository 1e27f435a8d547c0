"""What is recommended for which wish, and what is said of it."""

from __future__ import annotations

from functools import cache

import pytest

from madang.core.errors import UnknownOption
from madang.formats.spec import ModelDescription
from madang.hardware import Bandwidth
from madang.models import CatalogEntry, load_catalog
from madang.runtime.recommending import (
    TASK_WORDS,
    Answer,
    Wish,
    find_language,
    find_task,
    matches,
    recommend,
    with_license,
)
from madang.runtime.sizing import Sized, bandwidth_speed, size_of

GB = 1_000_000_000
ENTRIES = load_catalog().entries
LAPTOP = bandwidth_speed(Bandwidth(40e9, 40e9, 4, 1 << 20))


@cache
def size(reference: str, type_name: str) -> Sized | None:
    """Counted once for all tests, which ask for the same models again and again."""
    return size_of(ENTRIES[reference], type_name)


def ask(wish: Wish) -> Answer:
    return recommend(ENTRIES.values(), wish, LAPTOP, size=lambda entry, name: size(str(entry.reference), name))


def names(answer: Answer) -> list[str]:
    return [str(one.entry.reference) for one in answer.found]


@pytest.mark.parametrize("gigabytes", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("task", ["general", "coding", "korean", "rag"])
def test_what_is_recommended_fits(task: str, gigabytes: int) -> None:
    answer = ask(Wish(find_task(task), gigabytes * GB))
    assert gigabytes < 2 or answer.found
    for one in answer.found:
        assert one.memory_bytes <= gigabytes * GB
        assert one.most_tokens is None or one.most_tokens >= one.context_tokens
    assert len(answer.found) + sum(answer.left_out.values()) == len(ENTRIES)


def test_more_memory_takes_away_nothing() -> None:
    small, large = (set(names(ask(Wish("general", n * GB)))) for n in (4, 8))
    assert small < large


def test_more_memory_means_more_bits_until_speed_matters() -> None:
    """With nothing to hurry it, the best type that fits; asked for speed, the best that is as fast."""
    unhurried = {
        n: next(
            one
            for one in recommend(ENTRIES.values(), Wish("general", n * GB), bandwidth_speed(None)).found
            if str(one.entry.reference) == "qwen3:4b"
        ).type_name
        for n in (4, 5, 8)
    }
    assert unhurried == {4: "Q5_K_M", 5: "Q6_K", 8: "Q8_0"}
    fast = ask(Wish("general", 8 * GB, tokens_per_s=14))
    chosen = {str(one.entry.reference): one for one in fast.found}
    assert chosen["qwen3:4b"].type_name in ("Q4_K_M", "Q5_K_M")
    assert all(one.tokens_per_s is not None and one.tokens_per_s >= 14 for one in fast.found)
    assert fast.left_out["speed"] > 0
    assert fast.left_out["speed unknown"] > 0


def test_who_may_sell() -> None:
    allowed = ask(with_license(Wish("korean", 16 * GB), "commercial", ()))
    assert allowed.found
    assert not [name for name in names(allowed) if name.startswith("exaone")]
    assert "kanana:1.5-v-3b" not in names(allowed)  # a licence that nobody here has read is no permission
    anything = ask(Wish("korean", 16 * GB))
    exaone = next(one for one in anything.found if str(one.entry.reference) == "exaone3.5:7.8b")
    assert "exaone: research only" in exaone.reasons
    free = ask(with_license(Wish("general", 16 * GB), "unconditional", ()))
    assert not [name for name in names(free) if name.startswith(("llama", "gemma2"))]
    mit = ask(with_license(Wish("general", 16 * GB), "mit", ["MIT", "Apache-2.0"]))
    assert {one.entry.license.name for one in mit.found if one.entry.license} == {"MIT"}
    with pytest.raises(UnknownOption, match="licence named 'mitt'"):
        with_license(Wish(), "mitt", ["MIT"])


def test_a_language_that_is_not_known_is_not_assumed() -> None:
    answer = ask(Wish("math", 16 * GB, language="ko"))
    assert not [name for name in names(answer) if name.startswith("deepseek-r1")]
    assert answer.left_out["language unknown"] >= 3
    assert all("ko" in one.entry.languages for one in answer.found)


def test_made_for_the_task_comes_before_as_large_and_as_new() -> None:
    found = names(ask(Wish("coding", 8 * GB)))
    assert found.index("qwen2.5-coder:1.5b") < found.index("phi2:2.7b")
    assert found.index("qwen2.5-coder:7b") < found.index("llama3.1:8b")
    assert not [name for name in names(ask(Wish("korean", 8 * GB))) if name.startswith("qwen2.5-coder")]
    korean = names(ask(Wish("general", 4 * GB, language="ko")))
    assert korean.index("midm:2.0-mini") < korean.index("qwen3:1.7b")


def test_embedding_models_are_for_embedding_only() -> None:
    answer = ask(Wish("embedding", 4 * GB, language="ko"))
    assert {"kure:v1", "bge-m3:568m", "multilingual-e5:small"} <= set(names(answer))
    assert all(one.entry.task == "embedding" for one in answer.found)
    assert all(one.tokens_per_s is None for one in answer.found)
    assert not [one for one in ask(Wish("general")).found if one.entry.task != "chat"]


def test_two_bits_only_when_they_are_asked_for() -> None:
    tight = Wish("general", int(3.4 * GB), context_tokens=512)
    assert not [one for one in ask(tight).found if one.type_name == "Q2_K"]
    assert "llama2:7b" not in names(ask(tight))
    asked = ask(Wish("general", int(3.4 * GB), context_tokens=512, type_name="q2_k"))
    assert "llama2:7b" in names(asked)
    assert all(one.type_name == "Q2_K" and "Q2_K loses much" in one.reasons for one in asked.found)
    with pytest.raises(UnknownOption, match="preset"):
        ask(Wish(type_name="Q9"))


def test_what_is_made_here_says_so() -> None:
    one = next(one for one in ask(Wish("korean", 4 * GB)).found if str(one.entry.reference) == "midm:2.0-mini")
    assert one.made_here
    assert one.pull == "midm:2.0-mini"
    assert any("convert and quantize it here" in reason for reason in one.reasons)
    file = f"midm-2.0-mini-{one.type_name}.gguf"
    assert one.steps == (
        "madang pull midm:2.0-mini",
        "madang convert midm:2.0-mini midm-2.0-mini.gguf",
        f"madang quantize midm-2.0-mini.gguf {file} --type {one.type_name}",
        f"madang run file:{file}",
    )
    vectors = next(one for one in ask(Wish("embedding", 4 * GB)).found if str(one.entry.reference) == "kure:v1")
    assert vectors.steps == ("madang pull kure:v1",)


def test_other_types_are_pulled_by_their_files() -> None:
    answer = ask(Wish("general", 8 * GB, type_name="Q6_K"))
    one = next(one for one in answer.found if str(one.entry.reference) == "llama3.2:3b")
    assert one.pull == "hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q6_K.gguf"
    assert one.steps == (f"madang run {one.pull}",)


def test_engines() -> None:
    by_engine = {
        engine: ask(Wish("general", 16 * GB, engine=engine)) for engine in ("native", "llamacpp", "transformers")
    }
    assert "qwen3.5:4b" not in names(by_engine["native"])
    assert "qwen3.5:4b" in names(by_engine["llamacpp"])
    assert "falcon:7b" in names(by_engine["transformers"])
    assert all(one.entry.format == "gguf" for one in by_engine["llamacpp"].found)
    for engine, answer in by_engine.items():
        assert {one.engine for one in answer.found} == {engine}
    with pytest.raises(UnknownOption):
        ask(Wish(engine="vllm"))


def test_what_cannot_be_counted_comes_last() -> None:
    exact = [one.is_exact for one in ask(Wish("general", 16 * GB)).found]
    assert exact == sorted(exact, reverse=True)
    assert False in exact


def test_a_mixture_counts_between_its_parts_and_its_whole() -> None:
    def flat(description: ModelDescription, depth_tokens: int) -> float:
        return 20.0

    scores = {str(one.entry.reference): one.score for one in recommend(ENTRIES.values(), Wish("general"), flat).found}
    assert scores["qwen3:8b"] < scores["qwen3:30b-a3b"] < scores["qwen3:14b"]


@pytest.mark.parametrize(
    ("word", "task"),
    [
        ("코딩", "coding"),
        ("수학", "math"),
        ("한국어", "korean"),
        ("요약", "summarize"),
        ("임베딩", "embedding"),
        ("RAG", "rag"),
    ],
)
def test_tasks_in_two_languages(word: str, task: str) -> None:
    assert find_task(word) == task


def test_every_task_has_a_model() -> None:
    for task in set(TASK_WORDS.values()):
        assert any(task in entry.tasks for entry in ENTRIES.values()), task
    with pytest.raises(UnknownOption, match="task named 'poetry'"):
        find_task("poetry")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["한국어", "MIT"], "midm:2.0-mini"),
        (["코딩", "qwen"], "qwen2.5-coder:7b"),
        (["skt"], "ax:4.0"),
        (["embedding", "ko"], "kure:v1"),
        (["상업", "math"], "phi4:mini"),
    ],
)
def test_words_find_models(words: list[str], found: str) -> None:
    entry = ENTRIES[found]
    assert matches(entry, words)
    assert not matches(entry, [*words, "nonsense"])


def test_a_word_that_is_short_does_not_find_everything() -> None:
    def hits(word: str) -> list[CatalogEntry]:
        return [entry for entry in ENTRIES.values() if matches(entry, [word])]

    assert 0 < len(hits("math")) < len(ENTRIES) / 2
    assert 0 < len(hits("rerank")) < 6
    assert find_language("한국어") == "ko"
