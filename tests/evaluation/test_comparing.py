"""Whole comparisons of tiny models, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from madang.core.errors import InvalidRequest, ModelNotFound
from madang.core.settings import Settings
from madang.evaluation import ComparisonPlan, Question, compare, enter, parse_contestants, text_of
from madang.evaluation.comparing import FOLDER

TEXT = text_of("own", " ".join(f"A few plain words, and then some more: {n}." for n in range(110)), at_most=6)
PLAN = ComparisonPlan(
    text=TEXT,
    prompts=("Hello",),
    tasks=(Question("Say it", keywords=("it",)),),
    answer_tokens=4,
    prompt_tokens=16,
    decode_tokens=4,
    n_runs=2,
)
Tell = Callable[[str, int, int], None]


def run(models: list[Any], settings: Settings, plan: ComparisonPlan = PLAN, **options: Any) -> Any:
    return compare(enter(parse_contestants([str(own) for own in models]), settings), settings, plan, **options)


def test_less_precise_files_are_further_from_the_whole(tiny_files: dict[str, Path], settings: Settings) -> None:
    document = run([tiny_files["whole"], tiny_files["Q8_0"], tiny_files["Q4_0"]], settings)
    whole, better, worse = document["models"]
    assert document["reference"] == whole["label"] == "whole.gguf"
    assert document["one_tokenizer"]
    assert whole["against_reference"] is None
    kls = [own["against_reference"]["divergence"]["mean_kl"] for own in (better, worse)]
    assert 0 < kls[0]["low"] < kls[0]["value"] < kls[0]["high"] < kls[1]["value"]
    tops = [own["against_reference"]["divergence"]["top_1_agreement"]["value"] for own in (better, worse)]
    assert 1 >= tops[0] >= tops[1] > 0
    for own in document["models"]:
        assert own["failed"] is None and own["problems"] == {}
        assert own["engine"] == "native"
        assert own["memory"]["peak_bytes"] >= own["memory"]["loaded_bytes"] > own["size_bytes"]
        assert own["speed"]["prompt"]["tokens_per_s"]["median"] > 0
        assert own["text"]["own"]["perplexity"]["value"] > 1
        assert own["tasks"]["n"] == 1
        assert len(own["answers"]) == 1
    assert whole["size_bytes"] > better["size_bytes"] > worse["size_bytes"]
    assert not list((settings.home / FOLDER).glob("logits-*"))


def test_what_was_measured_is_kept_and_extended(tiny_files: dict[str, Path], settings: Settings) -> None:
    models = [tiny_files["whole"], tiny_files["Q8_0"]]
    first = run(models, settings)
    again = run(models, settings)
    assert again["steps"]["done"] == 0
    assert again["models"] == first["models"]
    longer = run([*models, tiny_files["Q4_0"]], settings)
    assert longer["steps"]["done"] == PLAN.n_steps
    assert longer["models"][:2] == first["models"]
    assert longer["models"][2]["against_reference"]["divergence"] is not None
    assert run(models, settings, fresh=True)["steps"]["kept_from_before"] == 0


def test_an_interrupted_comparison_goes_on(tiny_files: dict[str, Path], settings: Settings) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == PLAN.n_steps + 6:  # the second has read two passages
            raise KeyboardInterrupt

    models = [tiny_files["whole"], tiny_files["Q8_0"]]
    with pytest.raises(KeyboardInterrupt):
        run(models, settings, tell=interrupt)
    assert not list((settings.home / FOLDER).glob("logits-*"))
    found = run(models, settings)
    assert found["steps"]["kept_from_before"] == PLAN.n_steps + 6
    assert found["steps"]["done"] == PLAN.n_steps - 6
    assert found["models"][1]["against_reference"]["divergence"]["mean_kl"]["low"] is not None


def test_a_model_whose_process_is_killed_is_a_row_with_a_reason(
    tiny_files: dict[str, Path], settings: Settings
) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if what == "Q8_0.gguf" and done == PLAN.n_steps + 2:
            for child in psutil.Process().children():
                child.kill()

    found = run([tiny_files["whole"], tiny_files["Q8_0"], tiny_files["Q4_0"]], settings, tell=kill)
    whole, killed, after = found["models"]
    assert "killed" in killed["failed"]
    assert killed["text"] is None and killed["against_reference"]["divergence"] is None
    assert killed["speed"] is not None
    assert whole["failed"] is None and after["failed"] is None
    assert after["against_reference"]["divergence"] is not None


def test_a_model_that_cannot_be_opened_is_a_row_with_a_reason(
    tiny_files: dict[str, Path], settings: Settings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_files["whole"].read_bytes()[:2000])
    found = run([broken, tiny_files["Q8_0"]], settings)
    assert "not a valid model file" in found["models"][0]["failed"]
    assert found["models"][1]["text"] is not None
    assert found["models"][1]["against_reference"]["divergence"] is None
    # Without a reference the text was read alone; with one, the distance is still measured.
    plan = ComparisonPlan(text=TEXT, n_runs=0)
    with_reference = run([tiny_files["whole"], tiny_files["Q8_0"]], settings, plan)
    assert with_reference["models"][1]["against_reference"]["divergence"] is not None


def test_engines_that_give_no_probabilities_are_not_measured_by_text(
    tiny_files: dict[str, Path], settings: Settings
) -> None:
    found = run([tiny_files["whole"], "twin@echo"], settings, reference=0)
    echo = found["models"][1]
    assert echo["label"] == "twin@echo"
    assert echo["size_bytes"] is None
    assert "Not measurable" in echo["problems"]["text"]
    assert echo["text"] is None
    assert echo["answers"] == [{"prompt": "Hello", "text": "Hello"}]


def test_the_reference_may_be_any_of_them(tiny_files: dict[str, Path], settings: Settings) -> None:
    plan = ComparisonPlan(text=TEXT, n_runs=0)
    found = run([tiny_files["Q4_0"], tiny_files["whole"]], settings, plan, reference=1)
    assert found["reference"] == "whole.gguf"
    assert found["models"][0]["against_reference"]["divergence"]["mean_kl"]["value"] > 0
    assert found["models"][1]["against_reference"] is None


def test_engines_are_named_behind_the_last_at() -> None:
    own = parse_contestants(["a@echo", "hf:org/repo@main", "hf:org/repo@main@native", "b"], "llamacpp")
    assert [(one.reference, one.engine) for one in own] == [
        ("a", "echo"),
        ("hf:org/repo@main", "llamacpp"),
        ("hf:org/repo@main", "native"),
        ("b", "llamacpp"),
    ]
    with pytest.raises(InvalidRequest, match="more than once"):
        parse_contestants(["a@echo", "a@echo"])


def test_files_are_labelled_by_name_where_that_is_enough(tiny_files: dict[str, Path], settings: Settings) -> None:
    twin = tiny_files["whole"].parent / "twin" / "whole.gguf"
    twin.parent.mkdir(exist_ok=True)
    twin.write_bytes(tiny_files["whole"].read_bytes())
    own = enter(parse_contestants([str(tiny_files["whole"]), str(twin), str(tiny_files["Q8_0"])]), settings)
    assert [entrant.label for entrant in own] == [str(tiny_files["whole"]), str(twin), "Q8_0.gguf"]
    assert own[0].digest == own[1].digest != own[2].digest


def test_a_model_that_is_not_there_is_refused_before_anything_runs(settings: Settings) -> None:
    with pytest.raises(ModelNotFound):
        enter(parse_contestants(["/nowhere/model.gguf"]), settings)
