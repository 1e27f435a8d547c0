"""Measure our engine and its peers side by side: same machine, same files, same run.

    python benchmarks/peers.py setup                          make the peers' environments (also made when missing)
    python benchmarks/peers.py run MODEL.gguf ... [options]   measure, write results/<date>-<name>.json, print the table
    python benchmarks/peers.py table results/X.json           print that table again, or put it into --readme

Life of a run: environments -> rounds; in each round every engine and thread count has its turn on a file, in its own
process, starting with another one each round -> medians, ratios, JSON, Markdown. Standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from environments import BENCHMARKS, DEFAULT_PEERS, PEERS, SetupError, ensure_environment
from machine import describe_checkout, describe_machine, physical_cores
from measurement import (
    OURS,
    OURS_FAST,
    REPOSITORY,
    Measurement,
    Workload,
    measure,
    our_command,
    peer_command,
    without_machine_paths,
)
from report import markdown_table, summarize, update_readme

RESULTS = BENCHMARKS / "results"
SCHEMA = 1


@dataclass(frozen=True)
class Contender:
    """One engine at one thread count; `reason` says why it can't take part."""

    engine: str
    threads: int
    reason: str | None = None


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; an unknown peer or a missing model file is a usage error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    setup = verbs.add_parser("setup", help="make the peers' environments")
    run = verbs.add_parser("run", help="measure")
    table = verbs.add_parser("table", help="print the table of a results file")
    for verb in (setup, run):
        verb.add_argument("--peers", type=_peer_names, default=DEFAULT_PEERS, help=f"of {', '.join(PEERS)}")
    for verb in (run, table):
        verb.add_argument("--readme", type=Path, help="put the table between this file's peers markers")
    table.add_argument("result", type=Path)
    workload = Workload()
    run.add_argument("models", type=_model_file, nargs="+", metavar="MODEL", help="GGUF files")
    run.add_argument("--rounds", type=_positive, default=5)
    run.add_argument("--repetitions", type=_positive, default=workload.repetitions, help="timed ones per process")
    run.add_argument("--threads", type=_thread_counts, default=(physical_cores(),), help="one or more: 1,2")
    run.add_argument("--prompt-tokens", type=_positive, default=workload.prompt_tokens)
    run.add_argument("--decode-tokens", type=_positive, default=workload.decode_tokens)
    run.add_argument("--timeout-s", type=float, default=workload.timeout_s, help="limit for one process")
    run.add_argument("--name", default="peers", help="results/<date>-<name>.json")
    run.add_argument("--ours", type=Path, default=REPOSITORY / ".venv" / "bin" / OURS, help="our command")
    run.add_argument("--fast", action="store_true", help="measure ours with --precision fast, too")
    run.add_argument("--no-ours", action="store_true", help="leave our engine out")
    options = parser.parse_args(arguments)
    options.command = recorded_command(arguments)
    return options


def _peer_names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer {name!r}: choose from {', '.join(PEERS)}")
    return names


def _model_file(text: str) -> Path:
    path = Path(text.removeprefix("file:")).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no file {text}")
    return path


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count of one or more")
    return int(text)


def _thread_counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(count) for count in text.split(","))


def setup_peers(names: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Make the environments of `names`; return versions of those that work and reasons for those that don't."""
    versions: dict[str, dict[str, str]] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = ensure_environment(PEERS[name].environment)
        except (SetupError, OSError) as error:
            reasons[name] = without_machine_paths(str(error))
            print(f"{name}: {reasons[name]}", file=sys.stderr)
    return versions, reasons


def contenders(options: argparse.Namespace, reasons: dict[str, str]) -> list[Contender]:
    """Return every engine at every thread count, ours first."""
    ours = () if options.no_ours else (OURS, OURS_FAST) if options.fast else (OURS,)
    if not options.ours.exists():
        reasons = reasons | dict.fromkeys(ours, f"{options.ours.name} is not installed in the repository's environment")
    engines = (*ours, *options.peers)
    return [Contender(engine, threads, reasons.get(engine)) for engine in engines for threads in options.threads]


def workload_of(options: argparse.Namespace) -> Workload:
    """Return what every engine has to compute."""
    return Workload(options.prompt_tokens, options.decode_tokens, options.repetitions, options.timeout_s)


def measure_model(model: Path, options: argparse.Namespace, entrants: Sequence[Contender]) -> Iterator[Measurement]:
    """Yield the measurements of all rounds on one file; an engine that failed on it is not asked again."""
    workload = workload_of(options)
    active = list(entrants)
    for index in range(options.rounds):
        # Another one starts each round, so that no engine always follows the same one (caches, clocks, heat).
        turn = index % max(len(active), 1)
        for contender in active[turn:] + active[:turn]:
            measurement = Measurement(contender.engine, model.name, index, contender.threads, reason=contender.reason)
            if contender.reason is None:
                command = _command(contender, model, options, workload)
                measurement = measure(command, measurement, options.timeout_s)
            if measurement.reason is not None:
                active.remove(contender)
            yield measurement


def _command(contender: Contender, model: Path, options: argparse.Namespace, workload: Workload) -> list[str]:
    if contender.engine in (OURS, OURS_FAST):
        fast = contender.engine == OURS_FAST
        return our_command(options.ours, model, workload, contender.threads, fast=fast)
    return peer_command(PEERS[contender.engine], model, workload, contender.threads)


def describe_model(model: Path) -> dict[str, Any]:
    """Return name, size in bytes and SHA-256 of a model file."""
    with model.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": model.name, "size_bytes": model.stat().st_size, "sha256": digest}


def new_result(options: argparse.Namespace, versions: dict[str, dict[str, str]], path: Path) -> dict[str, Any]:
    """Return a results document without measurements: everything that was fixed before the first one."""
    return {
        "schema": SCHEMA,
        "file": path.name,
        "date": datetime.date.today().isoformat(),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
        "load_average_1m": os.getloadavg()[0],
        "workload": asdict(workload_of(options)),
        "rounds": options.rounds,
        "threads": list(options.threads),
        "models": [describe_model(model) for model in options.models],
        "peer_versions": {name: versions[name].get(PEERS[name].environment.package, "?") for name in versions},
        "packages": versions,
        "recipes": {name: asdict(PEERS[name].environment) for name in versions},
        "measurements": [],
        "summary": [],
    }


def recorded_command(arguments: Sequence[str]) -> str:
    """Return the command line with absolute paths made relative to the repository, or cut to the file's name."""
    shown = []
    for argument in arguments:
        path = Path(argument.removeprefix("file:"))
        if path.is_absolute():
            argument = str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name
        shown.append(argument)
    return shlex.join(["python", "benchmarks/peers.py", *shown])


def save(result: dict[str, Any], path: Path) -> None:
    """Write the document at once: a reader or an interrupted run never leaves half of it."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


def free_result_path(name: str) -> Path:
    """Return results/<date>-<name>.json, numbered when an earlier run today took that name."""
    stem = f"{datetime.date.today().isoformat()}-{name}"
    candidates = [RESULTS / f"{stem}.json", *(RESULTS / f"{stem}-{number}.json" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything `options` asks for; the results file is complete after every measurement."""
    versions, reasons = setup_peers(options.peers)
    entrants = contenders(options, reasons)
    path = free_result_path(options.name)
    result = new_result(options, versions, path)
    measurements: list[Measurement] = []
    for model in options.models:
        for measurement in measure_model(model, options, entrants):
            measurements.append(measurement)
            print(_progress(measurement), file=sys.stderr)
            result["measurements"] = [asdict(each) for each in measurements]
            result["summary"] = summarize(measurements, result["machine"]["logical_cores"])
            save(result, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)
    return result


def _progress(measurement: Measurement) -> str:
    prompt, decode = measurement.median("prompt"), measurement.median("decode")
    figures = f"prompt {prompt:.0f}, decode {decode:.1f} tok/s" if prompt and decode else f"n/a: {measurement.reason}"
    return f"{measurement.model} round {measurement.round + 1} {measurement.engine} x{measurement.threads}: {figures}"


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit status (1: a peer could not be set up, or the README lacks its markers)."""
    options = parse_options(arguments)
    if options.verb == "setup":
        _, reasons = setup_peers(options.peers)
        return 1 if reasons else 0
    result = run(options) if options.verb == "run" else json.loads(options.result.read_text())
    table = markdown_table(result)
    print(table)
    if options.readme is not None:
        try:
            update_readme(options.readme, table)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
