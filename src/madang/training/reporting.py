"""The page of a run: one file of HTML that asks for nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from madang.core.units import format_bytes, format_duration
from madang.training.curve import Place, svg_curve

Document = Mapping[str, Any]
_LOWER = ("perplexity", "bits_per_byte")  # metrics of which less is better
_FORGOTTEN_SHARE = 0.1


def run_page(result: Document, log: Sequence[Document]) -> str:
    """What changed against the base, how the loss went, how the run was planned, and some answers."""
    style = (files("madang.evaluation") / "page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    title = escape(f"{result['id']}: {result['base']['model']}")
    sections = [_head(result), _change(result), _curve(log), _plan(result["plan"]), _answers(result["answers"])]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in sections if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(result: Document) -> str:
    run = result["training"]
    rate = run["tokens"] / run["seconds"] if run["seconds"] else 0.0
    peak = "unknown" if run["peak_bytes"] is None else format_bytes(run["peak_bytes"])
    told = (
        f"{result['config']['method']}, {run['steps']} steps ({run['ended']}), {run['tokens']:,} tokens in "
        f"{format_duration(run['seconds'])} ({rate:.0f}/s), peak memory {peak}; madang {result['madang']}, "
        f"{result['made_at']}; base sha256 {result['base']['sha256'][:16]}…"
    )
    return f"<h1>{escape(result['base']['model'])}, tuned</h1>\n<p>{escape(told)}</p>"


def comparison_rows(result: Document) -> list[list[str]]:
    """Measure, before, after, difference with its interval, and what it means."""
    before, after, apart = result["before"], result["after"], result["difference"]
    rows = []
    if before["held_out"] is not None:
        for name, digits, key in (("held-out loss", 3, "loss"), ("exact match", 3, "exact_match")):
            told = [_figure(one["held_out"][key], digits) for one in (before, after)]
            rows.append([f"{name} (n = {before['held_out']['n']})", *told, *_apart(apart[key], lower=key == "loss")])
    for part, scores in before["texts"].items():
        told = [_figure(one["texts"][part]["perplexity"], 2) for one in (before, after)]
        name = f"perplexity, {part} (forgetting, n = {scores['n']})"
        rows.append([name, *told, *_apart(apart["texts"][part], lower=True)])
    for one in result["tasks"]:
        found = one["difference"] and {**one["difference"], "within_noise": one["may_be_chance"]}
        told = [f"{one[when]:.3f}" for when in ("before", "after")]
        lower = one["metric"].endswith(_LOWER)
        rows.append([f"{one['task']}, {one['metric']} (n = {one['n']})", *told, *_apart(found, lower=lower)])
    return rows


def forgetting_advice(result: Document) -> str | None:
    """One sentence where perplexity of the text rose by more than a tenth, and not by chance."""
    rose = {
        part: math.expm1(found["value"])
        for part, found in result["difference"]["texts"].items()
        if found is not None and not found["within_noise"]
    }
    part = max(rose, key=lambda name: rose[name], default=None)
    if part is None or rose[part] <= _FORGOTTEN_SHARE:
        return None
    rate = result["plan"]["learning_rate"]["value"]
    return (
        f"It forgets: the perplexity of {part} rose by {rose[part]:.0%}. "
        f"Lower --learning-rate (it was {rate:g}) or train fewer steps."
    )


def _figure(found: Document, digits: int) -> str:
    if found["low"] is None:
        return f"{found['value']:.{digits}f}"
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _apart(found: Document | None, *, lower: bool) -> list[str]:
    if found is None:
        return ["–", "unknown"]
    verdict = "within noise" if found["within_noise"] else "better" if (found["value"] < 0) == lower else "worse"
    return [f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]", verdict]


def _change(result: Document) -> str:
    head = ("measure", "before", "after", "difference", "")
    rows = [[escape(cell) for cell in row] for row in comparison_rows(result)]
    flips = result["difference"]["flips"]
    note = (
        "Intervals are 95 % (items drawn again); differences are paired, those of perplexities in nats per token. "
        f"Exact matches gained: {flips['gained']}, lost: {flips['lost']}."
    )
    advice = forgetting_advice(result)
    told = [note, *(() if advice is None else (escape(advice),))]
    return f"<h2>What changed</h2>\n{_table(head, rows)}\n" + "\n".join(f"<p>{one}</p>" for one in told)


def _curve(log: Sequence[Document]) -> str:
    trained = [Place(one["step"], one["loss"]) for one in log if "loss" in one]
    held_out = [Place(one["step"], one["held_out_loss"]) for one in log if "held_out_loss" in one]
    return f"<h2>Loss</h2>\n{svg_curve('Loss by step', trained, held_out)}"


def _plan(plan: Document) -> str:
    rows = [
        [escape(name.replace("_", " ")), escape(str(one["value"])), escape(one["reason"])]
        for name, one in plan.items()
        if isinstance(one, dict) and "reason" in one
    ]
    memory = escape(format_bytes(plan["memory"]["total_bytes"]))
    return (
        f"<h2>Plan</h2>\n{_table(('what', 'value', 'why'), rows)}\n"
        f"<p>{plan['n_trained']:,} weights trained; {memory} of memory expected.</p>"
    )


def _answers(answers: Sequence[Document]) -> str:
    if not answers:
        return ""
    rows = [[escape(one[key]) for key in ("prompt", "wanted", "said", "after")] for one in answers]
    return f"<h2>Held-out answers</h2>\n{_table(('prompt', 'wanted', 'before', 'after'), rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    ]
    table = f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide" role="region" tabindex="0" aria-label="{head[0]}"><table>{table}</table></div>'
