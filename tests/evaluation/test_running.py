"""Runs of tasks: kept at once, gone on with, and compared item by item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.engines.echo import EchoEngine
from madang.evaluation import (
    EvaluationPlan,
    EvaluationResult,
    KeptSteps,
    TaskResult,
    compare_results,
    enter,
    evaluate,
    parse_contestants,
    run_tasks,
)
from madang.evaluation.outcomes import mcnemar
from madang.evaluation.outcomes_page import outcomes_page
from madang.evaluation.questions import Question
from madang.evaluation.tasks.answers import Questions
from madang.evaluation.tasks.kobest import SentiNeg
from madang.evaluation.tasks.perplexity import Perplexity, articles_of
from madang.evaluation.tasks.task import mean_figure
from tests.evaluation.engines import ByteLogits, LengthScorer

ROWS = [{"Text": f"글 {number}", "Label": str(number % 2)} for number in range(12)]
SENTINEG = SentiNeg("kobest:sentineg", lambda: ROWS)
QUESTIONS = Questions("own", [Question(f"say {n}", answer=f"say {n}" if n % 3 else "no") for n in range(9)])


def test_figures_have_their_errors_and_intervals() -> None:
    result = run_tasks(LengthScorer(), [SENTINEG, QUESTIONS])
    choices, own = result.tasks
    assert choices.figure is not None and choices.figure["value"] == 0.5  # both choices are as long
    assert choices.figure["standard_error"] == pytest.approx(0.5 / (11**0.5))
    assert 0 < choices.figure["low"] < 0.5 < choices.figure["high"] < 1
    assert own.figure is not None and own.figure["value"] == pytest.approx(6 / 9)
    assert choices.example.startswith("문장: 글 0 긍부정:\n  → ")
    assert EvaluationResult.from_dict(json.loads(json.dumps(result.to_dict()))).to_dict() == result.to_dict()


def test_all_right_is_not_certain() -> None:
    figure = mean_figure([1.0] * 20)
    assert figure["high"] == 1.0
    assert figure["low"] == pytest.approx(0.8389, abs=1e-3)  # Wilson's interval for 20 of 20
    assert mean_figure([1.0] * 3)["low"] is None


def test_only_the_first_items_are_asked_when_there_is_a_limit() -> None:
    engine = LengthScorer()
    assert len(run_tasks(engine, [SENTINEG], limit=5).tasks[0].items) == 5
    assert engine.n_scored == 5


def test_what_was_kept_is_not_asked_again(tmp_path: Path) -> None:
    engine, path = LengthScorer(), tmp_path / "kept.jsonl"

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(engine, [SENTINEG], keep=KeptSteps(path), progress=interrupt)
    engine.n_scored = 0
    seen: list[int] = []
    found = run_tasks(engine, [SENTINEG], keep=KeptSteps(path), progress=lambda what, done, total: seen.append(done))
    assert seen[0] == 5 and seen[-1] == 12
    assert engine.n_scored == 7
    whole = run_tasks(LengthScorer(), [SENTINEG])
    assert found.tasks[0].figures == whole.tasks[0].figures


def test_a_task_that_an_engine_cannot_do_has_a_reason() -> None:
    choices, own = run_tasks(EchoEngine(), [SENTINEG, QUESTIONS]).tasks
    assert choices.figure is None and "does not tell how likely" in str(choices.problem)
    assert own.problem is None


def test_perplexity_is_per_word_byte_and_token() -> None:
    texts = ["one two three", "four five"]
    engine = ByteLogits()
    task = run_tasks(engine, [Perplexity("own", lambda: texts)]).tasks[0]
    nats = sum(engine.nats("\n" + text) for text in texts)
    assert task.figures["word_perplexity"]["value"] == pytest.approx(2.718281828459045 ** (nats / 5))
    assert task.figures["token_perplexity"]["value"] == pytest.approx(2.718281828459045 ** (nats / 22))
    empty = run_tasks(engine, [Perplexity("own", lambda: [""])]).tasks[0]
    assert empty.figure is None and "empty" in str(empty.problem)


def test_articles_begin_with_their_titles() -> None:
    text = " \n = One = \n \n text \n = = Part = = \n more \n = Two = \n end\n"
    assert articles_of(text) == [" = One = \n \n text \n = = Part = = \n more \n", " = Two = \n end\n"]
    assert articles_of("no title") == ["no title"]


# ---- before and after


def result_of(
    scores: Sequence[float], *, digest: str = "d", weights: Sequence[float] | None = None
) -> EvaluationResult:
    weights = [1.0] * len(scores) if weights is None else weights
    items = [{"id": str(n), "score": own, "weight": weights[n], "said": ""} for n, own in enumerate(scores)]
    task = TaskResult("t", "1", "accuracy", True, digest, "?", {"accuracy": mean_figure(scores, weights)}, items)
    return EvaluationResult({"label": "m", "digest": "x"}, (task,), "2026-01-01T00:00:00+00:00", "0")


def test_flips_are_counted_and_may_be_chance() -> None:
    before, after = [1, 1, 1, 0, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0, 1, 1]
    (found,) = compare_results(result_of(before), result_of(after))
    assert (found.gained, found.lost) == (("3", "4"), ("2",))
    assert found.p_value == 1.0
    assert found.difference is not None and found.difference[0] == pytest.approx(1 / 8)
    assert found.may_be_chance is True
    (sure,) = compare_results(result_of([0] * 40), result_of([1] * 30 + [0] * 10))
    assert sure.may_be_chance is False and sure.p_value is not None and sure.p_value < 1e-6
    (same,) = compare_results(result_of(before), result_of(before))
    assert same.difference is not None and -same.difference[1] == same.difference[2] > 0.1  # of 8 items


def test_mcnemar_is_exact() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(10, 0) == pytest.approx(2 / 2**10)
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 2**5)


def test_other_items_are_not_compared() -> None:
    with pytest.raises(InvalidRequest, match="no task with the same items"):
        compare_results(result_of([1, 0]), result_of([1, 0], digest="other"))
    with pytest.raises(InvalidRequest, match="not the document"):
        EvaluationResult.from_dict({"tasks": [{"name": "x"}]})


# ---- in processes of their own


def test_several_models_are_asked_alone_and_what_is_known_is_kept(
    tiny_files: dict[str, Path], settings: Settings
) -> None:
    models = [str(tiny_files["whole"]), str(tiny_files["Q8_0"]), "twin@echo"]
    entrants = enter(parse_contestants(models), settings)
    plan = EvaluationPlan(tasks=(SENTINEG, Perplexity("texts", lambda: ["Some words.", "More of them."])), limit=6)
    told: list[str] = []
    found = evaluate(entrants, settings, plan, tell=lambda what, done, total: told.append(f"{what} {done}"))
    whole, smaller, echo = found
    assert whole.failed is None and whole.model["engine"] == "native"
    assert len(whole.tasks[0].items) == 6 and whole.tasks[1].figure is not None
    assert "does not tell how likely" in str(echo.tasks[0].problem)
    (choices, texts) = compare_results(whole, smaller)
    assert choices.n == 6 and texts.gained is None
    again = evaluate(entrants[:2], settings, plan, tell=lambda what, done, total: told.append(what))
    assert [own.tasks for own in again] == [whole.tasks, smaller.tasks]


def test_a_model_that_cannot_be_opened_has_a_reason(
    tiny_files: dict[str, Path], settings: Settings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_files["whole"].read_bytes()[:2000])
    (found,) = evaluate(enter(parse_contestants([str(broken)]), settings), settings, EvaluationPlan(tasks=(SENTINEG,)))
    assert "not a valid model file" in str(found.failed)
    assert found.tasks[0].problem is not None


def test_the_page_has_figures_flips_prompts_and_no_markup_of_a_model() -> None:
    one, two = (run_tasks(engine, [SENTINEG]) for engine in (LengthScorer(), LengthScorer()))
    hostile = EvaluationResult({**two.model, "label": "<script>"}, two.tasks, two.made_at, two.madang)
    page = outcomes_page([one, hostile], ("en", "ko"))
    assert "<script>" not in page and "&lt;script&gt;" in page
    for part in ("kobest:sentineg", "50.0 %", "문장: 글 0 긍부정:", "모델 2개 평가", "<svg", "McNemar"):
        assert part in page
