"""From raw measurements to medians, ratios and the README's table.

The table takes, per engine and phase, the thread count with the highest median: what a person who tuned it would see.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measurement import OURS, Measurement

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
PHASES = ("prompt", "decode")
BUSY_SHARE = 0.05


def summarize(measurements: Sequence[Measurement], logical_cores: int) -> list[dict[str, Any]]:
    """Return one row per model and engine: per phase the best threads and tokens/s over rounds, and our ratio to it."""
    rows = []
    for model in dict.fromkeys(measurement.model for measurement in measurements):
        of_model = [measurement for measurement in measurements if measurement.model == model]
        engines = dict.fromkeys(measurement.engine for measurement in of_model)
        of_engine = {engine: [m for m in of_model if m.engine == engine] for engine in engines}
        for engine in engines:
            row = {"model": model, "engine": engine} | _row(of_engine[engine], of_engine.get(OURS, []))
            rows.append(row | {"others_cpu_share": busy_share(of_engine[engine], logical_cores)})
    return rows


def _row(theirs: Sequence[Measurement], ours: Sequence[Measurement]) -> dict[str, Any]:
    row: dict[str, Any] = {phase: _best_threads(theirs, phase) for phase in PHASES}
    reasons = [measurement.reason for measurement in theirs if measurement.reason]
    row["reason"] = reasons[0] if reasons and row["prompt"] is None else None
    peaks = [m.peak_resident_bytes for m in theirs if m.peak_resident_bytes and m.reason is None]
    row["peak_resident_bytes"] = max(peaks, default=None)
    for phase in PHASES:
        row[f"ours_over_it_{phase}"] = _ratio(_best_threads(ours, phase), row[phase])
    return row


def _best_threads(measurements: Sequence[Measurement], phase: str) -> dict[str, Any] | None:
    """Return the figures of the thread count with the highest median tokens/s; None when nothing was measured."""
    by_threads: dict[int, dict[int, float]] = {}
    for measurement in measurements:
        median = measurement.median(phase)
        if median is not None:
            by_threads.setdefault(measurement.threads, {})[measurement.round] = median
    if not by_threads:
        return None
    threads = max(by_threads, key=lambda count: statistics.median(by_threads[count].values()))
    of_rounds = by_threads[threads]
    rates = of_rounds.values()
    return {
        "threads": threads,
        "tokens_per_s": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "by_round": of_rounds,
    }


def _ratio(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> dict[str, float] | None:
    """Return ours / theirs: of the medians, and the lowest and highest of the rounds both took part in."""
    if ours is None or theirs is None:
        return None
    common = sorted(ours["by_round"].keys() & theirs["by_round"].keys())
    of_medians = ours["tokens_per_s"]["median"] / theirs["tokens_per_s"]["median"]
    of_rounds = [ours["by_round"][index] / theirs["by_round"][index] for index in common] or [of_medians]
    return {"of_medians": of_medians, "min": min(of_rounds), "max": max(of_rounds)}


def markdown_table(result: dict[str, Any]) -> str:
    """Return the table of a results document, what it was measured on, and the reasons for what is missing."""
    workload = result["workload"]
    lines = [
        f"| model file | engine | prompt of {workload['prompt_tokens']}, tok/s "
        f"| decode of {workload['decode_tokens']}, tok/s | {OURS} ÷ it: prompt | decode | peak memory |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [_table_row(row) for row in result["summary"]]
    lines += ["", _caption(result)]
    missing = _missing(result["summary"])
    return "\n".join(lines + (["", *missing] if missing else [])) + "\n"


def _missing(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line per engine and reason, naming the files it stands for."""
    files: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["reason"]:
            files.setdefault((row["engine"], row["reason"]), []).append(row["model"])
    return [f"- {engine}: n/a, {reason} ({', '.join(models)})" for (engine, reason), models in files.items()]


def _table_row(row: dict[str, Any]) -> str:
    ratios = ["" if row["engine"] == OURS else _times(row[f"ours_over_it_{phase}"]) for phase in PHASES]
    memory = "" if row["peak_resident_bytes"] is None else f"{row['peak_resident_bytes'] / 1e6:,.0f} MB"
    mark = "*" if row["others_cpu_share"] > BUSY_SHARE else ""
    cells = [row["model"], row["engine"] + mark, *(_rate(row[phase]) for phase in PHASES), *ratios, memory]
    return f"| {' | '.join(cells)} |"


def _rate(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return "n/a"
    median: float = figures["tokens_per_s"]["median"]
    return f"{median:,.0f}" if median >= 100 else f"{median:.1f}"


def _times(ratio: dict[str, float] | None) -> str:
    return "–" if ratio is None else f"{ratio['of_medians']:.2f}×"


def _caption(result: dict[str, Any]) -> str:
    machine, workload = result["machine"], result["workload"]
    memory = "" if machine["memory_bytes"] is None else f", {machine['memory_bytes'] / 2**30:.0f} GiB"
    commit = (result["checkout"]["commit"] or "no commit")[:10] + ("+" if result["checkout"]["modified"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in result["peer_versions"].items())
    noise = busy_share([Measurement(**each) for each in result["measurements"]], machine["logical_cores"])
    loud = any(row["others_cpu_share"] > BUSY_SHARE for row in result["summary"])
    return (
        f"Medians of {result['rounds']} rounds, {workload['repetitions']} repetitions each, engines interleaved, "
        f"{_thread_counts(result)}. {machine['cpu_model']} (family {machine['cpu_family_model']}), "
        f"{machine['physical_cores']} cores{memory}, {machine['system']} {machine['kernel']}; {result['date']}, "
        f"commit {commit}; {versions or 'no peers'}. Others' share of the processor meanwhile: {noise:.1%}"
        f"{f' (above {BUSY_SHARE:.0%} in rows with *: take these again)' if loud else ''}. "
        f"Command: `{result['command']}`; raw numbers: `benchmarks/results/{result['file']}`."
    )


def _thread_counts(result: dict[str, Any]) -> str:
    counts = [str(count) for count in result["threads"]]
    if len(counts) > 1:
        return f"the best of {', '.join(counts)} threads"
    return "1 thread" if counts == ["1"] else f"{counts[0]} threads"


def busy_share(measurements: Sequence[Measurement], logical_cores: int) -> float:
    """Return the share of the machine's CPU time that other processes and the hypervisor took while we measured."""
    taken_s, available_s = 0.0, 0.0
    for each in measurements:
        if each.other_cpu_s is not None and each.steal_s is not None:
            taken_s += each.other_cpu_s + each.steal_s
            available_s += each.wall_s * logical_cores
    return taken_s / available_s if available_s else 0.0


def update_readme(readme: Path, table: str) -> None:
    """Replace what stands between the markers in `readme`. Raises `ValueError` when it lacks them."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme.name} needs one {BEGIN} and one {END} after it")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    readme.write_text(f"{head}{BEGIN}\n{table}{END}{tail}")
