"""``madang prune``, ``distill`` and ``merge`` on a model of a few thousand weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Madang

pytest.importorskip("gguf")
from tests.training.tiny import tiny_folder

WORDS = "Some words that a model reads, again and again, with no sense in them at all. " * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("shrinking"), name="base")


def test_a_pruned_model_comes_with_its_certificate(madang: Madang, base: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    words = ["prune", base, target, "--layers", 3, "--ffn", 32, "--kv-heads", 1, "--text", text, "--report", text]
    result = madang(*map(str, [*words, "--chunks", 2, "--threads", 1, "--json"]))
    assert result.status == 0, result.err
    told = result.json()
    assert len(told["layers_left_out"]) == 1
    config = json.loads((target / "config.json").read_text())
    sizes = ("num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    assert [config[name] for name in sizes] == [3, 32, 2, 1, 16]
    certificate = json.loads((target / "certificate.json").read_text())
    assert certificate["models"]["pruned"]["size_bytes"] < certificate["models"]["before"]["size_bytes"]
    assert certificate["models"]["before"]["mean_kl"] == pytest.approx(0, abs=1e-6)
    assert certificate["models"]["pruned"]["mean_kl"] > 0
    assert certificate["models"]["pruned"]["decode_tokens_s"] > 0
    [kept] = madang("runs", "list", "--kind", "prune", "--json").json()["runs"]
    assert (kept["model"], kept["of"]) == ("small", [str(base)])
    figure = certificate["models"]["pruned"]["perplexity"]
    assert kept["scores"]["perplexity"] == figure
    assert f"{figure['value']:.2f}" in madang("runs", "show", str(kept["run"])).out
    [same] = madang("runs", "compare", *[str(kept["run"])] * 2, "--json").json()["tasks"]
    assert (same["before"], same["difference"]["value"]) == (figure["value"], 0)


def test_a_student_is_taught_by_a_file(madang: Madang, base: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    target = tmp_path / "taught"
    words = ["distill", base, target, "--teacher", base.with_suffix(".gguf"), "--text", text, "--tokens", 128]
    words += ["--on-policy", 0.5, "--beta", 0.5]
    result = madang(*map(str, [*words, "--sequence-tokens", 32, "--threads", 1, "--json"]))
    assert result.status == 0, result.err
    told = result.json()
    assert told["step"] == 2
    log = [json.loads(line) for line in Path(told["run"], "log.jsonl").read_text().splitlines()]
    assert [line["on_policy"] for line in log] == [False, True]
    assert told["loss"] > 0
    assert json.loads((target / "distillation.json").read_text())["config"]["soft_weight"] == 0.5
    assert list((tmp_path / "home" / "teachers").glob("*/teacher.json"))
    [kept] = madang("runs", "list", "--kind", "distill", "--json").json()["runs"]
    assert kept["scores"]["loss"]["value"] == told["loss"]


def test_a_sweep_tells_what_it_tried(madang: Madang, base: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "merged"
    words = ["merge", base, base, target, "--method", "slerp", "--validation", text, "--threads", 1, "--json"]
    result = madang(*map(str, words))
    assert result.status == 0, result.err
    told = result.json()
    assert [one["method"] for one in told["tried"]] == ["slerp"] * 3
    shown = madang("runs", "show", "1", "--json").json()
    assert (shown["kind"], shown["document"]["chosen"]) == ("merge", told["chosen"])
    assert told["alone"][0]["perplexity"] == pytest.approx(told["tried"][0]["perplexity"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prune", "{base}", "{new}", "--text", "{text}"], "Nothing is to be left out"),
        (["prune", "{base}.gguf", "{new}", "--text", "{text}", "--layers", "2"], "is a GGUF file"),
        (
            ["prune", "{base}", "{new}", "--text", "{text}", "--layers", "4", "--chunks", "1", "--threads", "1"],
            "4 cannot be what is left",
        ),
        (["prune", "{base}", "{base}", "--text", "{text}", "--layers", "2"], "exists already"),
        (["distill", "{base}", "{new}", "--text", "{text}"], "needs a teacher"),
        (["distill", "{base}", "{new}", "--soft-weight", "0"], "something to learn on"),
        (["distill", "--responses", "{text}", "{new}"], "Somebody must answer"),
        (["merge", "{base}", "{new}", "--method", "liner"], "liner"),
        (["merge", "{base}.gguf", "{new}"], "never into a quantized"),
        (["merge", "{base}", "{base}", "{new}", "--weights", "a,b"], "is not numbers"),
        (["merge", "{base}", "{base}", "{new}", "--method", "ties"], "Give --base"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    madang: Madang, words: list[str], sentence: str, base: Path, text: Path, *, tmp_path: Path
) -> None:
    places = {"base": base, "text": text, "new": tmp_path / "new"}
    result = madang(*(word.format(**places) for word in words))
    assert result.status == 2
    assert sentence in result.err
    assert not (tmp_path / "new").exists()
