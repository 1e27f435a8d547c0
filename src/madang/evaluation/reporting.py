"""The document of a comparison: all figures, what they were measured on, and what may be chance. JSON as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from madang import __version__
from madang.core.settings import Settings
from madang.evaluation.measures import (
    difference,
    divergence_figures,
    equal_divergences,
    estimate,
    figures_by_part,
    is_noise,
    text_is_noise,
)
from madang.evaluation.questions import scores_of
from madang.evaluation.speed import ranges_overlap, summarize

if TYPE_CHECKING:
    from madang.evaluation.comparing import ComparisonPlan, Row

Document = dict[str, Any]


def comparison_document(rows: Sequence[Row], plan: ComparisonPlan, settings: Settings, reference: int) -> Document:
    """Everything about the contestants, in the order in which they were given."""
    models = [_model(row, plan) for row in rows]
    for model, row in zip(models, rows, strict=True):
        model["against_reference"] = None if row is rows[reference] else _against(row, rows[reference], plan)
    same = [number for number, row in enumerate(rows) if models[number]["text"] is not None and row.readings]
    counts = {tuple(reading.n_tokens for reading in rows[number].readings) for number in same}
    return {
        "madang": __version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(settings),
        "reference": rows[reference].entrant.label,
        "one_tokenizer": len(counts) <= 1,
        "measured_on": _measured_on(plan),
        "steps": {"done": sum(row.n_done for row in rows), "kept_from_before": sum(row.n_found for row in rows)},
        "models": models,
        "equal_kl": equal_divergences({row.entrant.label: row.readings for row in rows if _has_read_all(row, plan)}),
    }


def _machine(settings: Settings) -> Document:
    from madang.hardware import probe_machine

    machine = probe_machine(settings.home, gpus=False)
    return {
        "system": machine.system,
        "cpu": machine.cpu,
        "physical_cores": machine.physical_cores,
        "ram_bytes": machine.ram_total_bytes,
    }


def _measured_on(plan: ComparisonPlan) -> Document:
    passages = () if plan.text is None else plan.text.passages
    return {
        "text": [
            {
                "name": part,
                "passages": sum(passage.part == part for passage in passages),
                "bytes": sum(passage.n_bytes for passage in passages if passage.part == part),
            }
            for part in ([] if plan.text is None else plan.text.parts)
        ],
        "prompts": list(plan.prompts),
        "answer_tokens": plan.answer_tokens,
        "raw": plan.raw,
        "tasks": len(plan.tasks),
        "speed": {"prompt_tokens": plan.prompt_tokens, "decode_tokens": plan.decode_tokens, "runs": plan.n_runs},
    }


def _has_read_all(row: Row, plan: ComparisonPlan) -> bool:
    return plan.text is not None and len(row.readings) == len(plan.text.passages)


def _model(row: Row, plan: ComparisonPlan) -> Document:
    facts = row.facts or {}
    is_here = row.facts is not None and facts["engine"] != "remote"  # else it takes memory elsewhere
    return {
        "label": row.entrant.label,
        "model": row.entrant.contestant.reference,
        "engine": facts.get("engine", row.entrant.contestant.engine),
        "digest": row.entrant.digest,
        "failed": row.lost,
        "problems": dict(row.problems),
        "size_bytes": row.entrant.size_bytes,
        "threads": facts.get("threads"),
        "context_tokens": facts.get("context_tokens"),
        "load_s": facts.get("load_s"),
        "memory": {
            "loaded_bytes": facts["resident_bytes"] if is_here else None,
            "peak_bytes": row.peak_bytes if is_here else None,
        },
        "speed": summarize(row.runs) if row.runs else None,
        "text": figures_by_part(row.readings) if _has_read_all(row, plan) else None,
        "tasks": _tasks(row, plan),
        "answers": [{"prompt": prompt, "text": text} for prompt, text in zip(plan.prompts, row.answers, strict=False)],
    }


def _scores(row: Row, plan: ComparisonPlan) -> list[float] | None:
    said = [text for text in row.task_answers if text is not None]
    return scores_of(plan.tasks, said) if plan.tasks and len(said) == len(plan.tasks) else None


def _tasks(row: Row, plan: ComparisonPlan) -> Document | None:
    scores = _scores(row, plan)
    if scores is None:
        return None
    return {"score": estimate(scores, [1.0] * len(scores)), "n": len(scores), "scores": scores}


def _against(row: Row, reference: Row, plan: ComparisonPlan) -> Document:
    """What differs from the reference; in ``within_noise`` true is a difference that may be chance, null unknown."""
    noise: dict[str, Any] = {"text": None, "tasks": None, "prompt": None, "decode": None}
    divergence = None
    if _has_read_all(row, plan):
        divergence = divergence_figures(row.readings)
        if _has_read_all(reference, plan):
            noise["text"] = text_is_noise(row.readings, reference.readings)
    own, theirs = _scores(row, plan), _scores(reference, plan)
    if own is not None and theirs is not None:
        noise["tasks"] = is_noise(difference(own, theirs, [1.0] * len(own)))
    if min(len(row.runs), len(reference.runs)) > 1:
        speed, other = summarize(row.runs), summarize(reference.runs)
        for step in ("prompt", "decode"):
            noise[step] = ranges_overlap(speed[step]["tokens_per_s"], other[step]["tokens_per_s"])
    return {"divergence": divergence, "within_noise": noise}
