"""How far forecasts are from what happens: memory, decode and prompt speed of models at several depths.

    .venv/bin/python benchmarks/forecast.py benchmarks/.models/*.gguf --depths 512,2048
    .venv/bin/python benchmarks/forecast.py MODEL.gguf --into benchmarks/results/DATE-forecast.json   # adds to a file

Before and after each point, this machine's kernels are measured for the model's types, in processes of their own:
shared memory changes its speed by tens of per cent within seconds, so figures of different times cannot be compared. A
forecast is the mean of both. Where memory's speeds before and after are too far apart, the machine was another one
meanwhile, and the point is taken again; if it stays so, it says "unsteady". The model is loaded in another process.
Runs in which other processes took the processors do not count; a point with too few others is taken again, too, and
says "disturbed" in the end. What is added up: src/madang/hardware/forecast.py.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean, median
from typing import Any

from machine import describe_checkout, describe_machine, physical_cores
from measurement import REPOSITORY
from peers import free_result_path, save

CLEAN_SHARE = 0.93  # of the processors' time that this process had, while it computed
CLEAN_RUNS, MOST_S = 3, 12.0
MOST_DISTURBED = 0.1  # of a profile's figures
STEADY = 0.1  # by how much memory's speed may differ before and after a point
ATTEMPTS = 3  # at a point
DECODE_TOKENS = 48
LIMITS = {"memory": 0.05, "decode": 0.15, "prompt": 0.20}


def main(arguments: Sequence[str]) -> int:
    """Measure every model at every depth; the exit status says whether all errors are within the limits."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_CHILDREN[options.child](options)))
        return 0
    path = options.into or free_result_path("forecast")
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else _new_document()
    for model in options.models:
        for depth in options.depths.split(","):
            point = _steady_point(model, depth, options)
            if point is None:
                print(f"{model.name} at {depth} is left out: other processes computed", file=sys.stderr)
                continue
            name = (point["model"], point["depth_tokens"])
            earlier = [p for p in document["points"] if (p["model"], p["depth_tokens"]) != name]
            document["points"] = sorted([*earlier, point], key=lambda p: (p["model"], p["depth_tokens"]))
            save(document, path)
    _print(document["points"])
    return int(any(abs(point["error"][name]) > limit for point in document["points"] for name, limit in LIMITS.items()))


def _steady_point(model: Path, depth: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """The last attempt, where none is steady and undisturbed; None where the kernels never were."""
    point = None
    before = _child("profile", model, options)
    for _ in range(ATTEMPTS):
        measured = _child("points", model, options, depth)
        after = _child("profile", model, options)
        if max(profile["disturbed_share"] for profile in (before, after)) <= MOST_DISTURBED:
            point = _compare(model, (before, after), measured, options.threads)
            if point["is_steady"] and point["runs"]["undisturbed"] >= CLEAN_RUNS:
                break
        before = after
    return point


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="GGUF files")
    parser.add_argument("--depths", default="512,2048", help="tokens of the prompts")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--into", type=Path, help="a file of results to add to")
    parser.add_argument("--child", choices=("profile", "points"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _new_document() -> dict[str, Any]:
    return {
        "command": "forecast.py MODEL …",
        "date": datetime.date.today().isoformat(),
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
        "limits": LIMITS,
        "points": [],
    }


def _child(kind: str, model: Path, options: argparse.Namespace, depths: str = "") -> Any:
    command = [sys.executable, __file__, str(model), "--child", kind, "--depths", depths]
    done = subprocess.run([*command, "--threads", str(options.threads)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _profile(options: argparse.Namespace) -> Any:
    from madang.formats.families import describe_model
    from madang.hardware import probe_machine
    from madang.hardware.profile import profile_document
    from madang.native.measuring import measure_machine

    description = describe_model(options.models[0], "gguf")
    kinds = {tensor.type for tensor in description.tensors.values() if len(tensor.shape) > 1}
    return profile_document(measure_machine(probe_machine(gpus=False), threads=options.threads, types=kinds))


def _points(options: argparse.Namespace) -> Any:
    """Of one depth: in another process, what was left behind would count for the next."""
    import psutil

    from madang.core.settings import load_settings
    from madang.native import NativeEngine
    from madang.runtime import open_model

    depth = int(options.depths)
    settings = {"threads": options.threads, "engine": "native", "context": depth + 64}
    engine = open_model(f"file:{options.models[0].resolve()}", load_settings(settings, {}))
    assert isinstance(engine, NativeEngine)
    engine.benchmark(16, 1)
    runs: list[dict[str, float]] = []
    clean: list[dict[str, float]] = []
    started = time.perf_counter()
    while len(clean) < CLEAN_RUNS and (time.perf_counter() - started < MOST_S or len(runs) < CLEAN_RUNS):
        runs.append(_run(engine, depth, DECODE_TOKENS))
        clean = [run for run in runs if run["share"] >= CLEAN_SHARE]
    return {
        "depth_tokens": depth,
        "n_runs": len(runs),
        "n_clean": len(clean),
        "prompt_s": median(run["prompt_s"] for run in clean or runs),
        "decode_s": median(run["decode_s"] for run in clean or runs),
        "resident_bytes": psutil.Process().memory_info().rss,
    }


def _run(engine: Any, prompt_tokens: int, decode_tokens: int) -> dict[str, float]:
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    prompt_s, decode_s = engine.benchmark(prompt_tokens, decode_tokens)
    share = (time.process_time() - start_cpu_s) / (time.perf_counter() - start_s) / engine.threads
    return {"share": share, "prompt_s": prompt_s, "decode_s": decode_s}


_CHILDREN = {"profile": _profile, "points": _points}


def _compare(model: Path, profiles: Sequence[dict[str, Any]], point: dict[str, Any], threads: int) -> dict[str, Any]:
    from madang.formats.families import describe_model
    from madang.hardware import forecast_decode, forecast_prompt, work_of
    from madang.hardware.profile import profile_from

    machines, description = [profile_from(profile) for profile in profiles], describe_model(model, "gguf")
    work = work_of(description)
    depth, n_tokens = point["depth_tokens"], point["depth_tokens"] + DECODE_TOKENS
    decode_depth = depth + DECODE_TOKENS // 2
    found = {
        "memory": point["resident_bytes"],
        "decode": DECODE_TOKENS / point["decode_s"],
        "prompt": depth / point["prompt_s"],
    }
    forecast = {
        "memory": _needed_bytes(description, n_tokens),
        "decode": harmonic_mean([forecast_decode(m, work, decode_depth, threads=threads) for m in machines]),
        "prompt": harmonic_mean([forecast_prompt(m, work, depth, threads=threads) for m in machines]),
    }
    slower, faster = sorted(machine.memory_bytes_per_s for machine in machines)
    return {
        "model": model.name,
        "depth_tokens": depth,
        "measured": found,
        "forecast": forecast,
        "error": {name: forecast[name] / found[name] - 1 for name in found},
        "runs": {"all": point["n_runs"], "undisturbed": point["n_clean"]},
        "is_steady": faster <= (1 + STEADY) * slower,
        "profiles": list(profiles),
    }


def _needed_bytes(description: Any, n_tokens: int) -> int:
    from madang.hardware import MemoryEstimate, kv_cache_bytes, packed_weights_bytes, working_bytes
    from madang.hardware.plan import PREFILL_CHUNK_TOKENS

    step_tokens = min(PREFILL_CHUNK_TOKENS, n_tokens)
    cache_bytes = kv_cache_bytes(description.spec, n_tokens, step_tokens=step_tokens)
    weights_bytes = packed_weights_bytes(description.tensors.values())
    return MemoryEstimate(weights_bytes, cache_bytes, working_bytes(description.spec, step_tokens)).total_bytes


def _print(points: list[dict[str, Any]]) -> None:
    print(f"{'model':38} {'depth':>5}  {'memory':>16}  {'decode tokens/s':>22}  {'prompt tokens/s':>24}")
    for p in points:
        found, forecast, error = p["measured"], p["forecast"], p["error"]
        disturbed = "" if p["runs"]["undisturbed"] >= CLEAN_RUNS else "  (disturbed)"
        disturbed += "" if p["is_steady"] else "  (unsteady)"
        print(
            f"{p['model'].removesuffix('.gguf'):38} {p['depth_tokens']:5}  "
            f"{found['memory'] / 1e6:7.0f} MB {error['memory']:+6.1%}  "
            f"{found['decode']:6.1f} {forecast['decode']:6.1f} {error['decode']:+8.1%}  "
            f"{found['prompt']:7.0f} {forecast['prompt']:7.0f} {error['prompt']:+8.1%}{disturbed}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
