"""Our engines as models of lm-evaluation-harness: the same items and prompts end in the same figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from madang.core import Engine
from madang.core.settings import Settings
from madang.evaluation import DataPlace, find_task, run_tasks
from madang.runtime import open_model
from tests.evaluation.engines import ByteLogits, LengthScorer

pytest.importorskip("lm_eval")


class Instance:
    """What the harness hands over."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def model(engine: Engine, **options: Any) -> Any:
    from madang.evaluation.harness import MadangLM

    return MadangLM(engine=engine, **options)


def test_choices_of_one_context_are_branches_of_it() -> None:
    engine = LengthScorer()
    pairs = [("Q: ", " a"), ("Q: ", " bb"), ("R", " c")]
    found = model(engine).loglikelihood([Instance(*pair) for pair in pairs])
    assert found == [(pytest.approx(-9.7), False), (pytest.approx(-9.6), False), (pytest.approx(-9.8), False)]
    assert engine.n_scored == 2  # the space at the end of a context went to its continuations


def test_texts_are_read_from_their_beginning() -> None:
    engine = ByteLogits(8)
    found = model(engine, prefix="\n").loglikelihood_rolling([Instance("some text of a page")])
    assert -found[0] == pytest.approx(engine.nats("\nsome text of a page"))
    ((alone, _),) = model(engine).loglikelihood([Instance("", "word")])
    assert -alone == pytest.approx(engine.nats("\nword"))


def test_answers_end_where_the_task_says() -> None:
    found = model(LengthScorer()).generate_until([Instance("one. two", {"until": ["."], "max_gen_toks": 8})])
    assert found == ["one"]
    many = [f"<{n}>" for n in range(20)]
    assert model(LengthScorer()).generate_until([Instance("a<19>b", {"until": many})]) == ["a"]


def test_both_have_the_same_figures(tiny_files: dict[str, Path], settings: Settings, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    rows = [{"Text": f"글 {number}이다", "Label": str(number % 2)} for number in range(8)]
    lines = ["Text\tLabel", *("\t".join(row.values()) for row in rows)]
    (tmp_path / "kobest_SentiNeg_test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    theirs = [{"sentence": row["Text"], "label": int(row["Label"])} for row in rows]
    data = tmp_path / "theirs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in theirs), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(
        f"""task: own_sentineg
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {tmp_path / "cache"}}}
test_split: test
output_type: multiple_choice
doc_to_text: "문장: {{{{sentence}}}} 긍부정:"
doc_to_target: "{{{{label}}}}"
doc_to_choice: ["부정", "긍정"]
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
""",
        encoding="utf-8",
    )
    engine = open_model(str(tiny_files["whole"]), settings)
    try:
        ours = run_tasks(engine, [find_task("kobest:sentineg", DataPlace(tmp_path, offline=True))]).tasks[0]
        found = simple_evaluate(
            model(engine),
            tasks=["own_sentineg"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            bootstrap_iters=0,
        )
    finally:
        engine.close()
    samples = sorted(found["samples"]["own_sentineg"], key=lambda own: own["doc_id"])
    assert [own["acc"] for own in samples] == [item["score"] for item in ours.items]
    assert ours.figure is not None
    assert found["results"]["own_sentineg"]["acc,none"] == pytest.approx(ours.figure["value"])
