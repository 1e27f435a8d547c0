"""The budget quantizer against llama.cpp's presets at the same bytes, with the same importance.

    python benchmarks/budget.py MODEL.gguf [--presets Q4_K_M,IQ4_NL,Q4_0] [--chunks 40] [--name budget-NAME]

MODEL is one of those that references.py and train_reference.py make, in F16 or F32. Importance and choices are made on
wikitext-2's valid part, everything is reported on its test part, and on Korean and code, which no choice has seen.
llama.cpp's files are made by its own quantizer in the environment of `peers.py setup --peers llama.cpp`. All files are
read by madang's engine with activations of 15 bits.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environments import LLAMA_CPP, WORKERS
from machine import describe_checkout, describe_machine
from madang.native import MutableModel
from madang.quantization.budget import MAX_ROUNDS
from madang.quantization.divergence import Divergence, compare, cut, fold, reduction, rows_of
from madang.quantization.importance import measure_importance, write_importance
from madang.quantization.sizing import (
    IMPORTANCE,
    CalibrationText,
    Work,
    chunks_of,
    hash_file,
    quantize_to_size,
)
from measurement import REPOSITORY
from peers import free_result_path, recorded_command, save
from texts import TEXTS

OTHER_CHUNKS = 8  # of each text that is unlike the calibration


def read_texts() -> tuple[CalibrationText, dict[str, str]]:
    """What is calibrated and certified on, and texts of other kinds."""
    valid, test = TEXTS["wikitext-2 valid"](), TEXTS["wikitext-2 test"]()
    wikitext = CalibrationText("wikitext-2 valid and test", valid, test)
    return wikitext, {"korean": TEXTS["boolq"](), "code": TEXTS["code"]()}


def make_preset(source: Path, importance: Path, target: Path, preset: str) -> None:
    """llama.cpp's file. Raises RuntimeError with its last line."""
    worker = [str(LLAMA_CPP.python), str(WORKERS / "quantize_llama_cpp.py")]
    command = [*worker, str(source), str(target), preset, "--importance", str(importance)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["llama.cpp's quantizer failed"])[-1])


def measure_files(source: Path, files: Sequence[Path], texts: dict[str, list[list[int]]], threads: int) -> list[Any]:
    """For each file, its divergence from the source on each text; all are in memory at once."""
    reference, others = MutableModel(source, threads), [MutableModel(file, threads) for file in files]
    found: list[dict[str, Divergence]] = [{} for _ in files]
    for name, chunks in texts.items():
        parts: list[list[Divergence]] = [[] for _ in files]
        for chunk in chunks:
            rows = rows_of(reference, chunk)
            for own, other in zip(parts, others, strict=True):
                own.append(compare(rows, rows_of(other, chunk), chunk))
        for own, figures in zip(found, parts, strict=True):
            own[name] = fold(figures)
        print(name, [f"{own[name].mean:.5f}" for own in found], file=sys.stderr, flush=True)
    return found


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything for one model."""
    wikitext, others = read_texts()
    model = MutableModel(options.model, options.threads)
    importance = folder / "importance.gguf"
    if not importance.exists():
        found = measure_importance(model, chunks_of(model, wikitext)[IMPORTANCE], dataset=wikitext.name)
        write_importance(importance, found)
    texts = {"wikitext-2 test": cut(model.tokenize(wikitext.held_out), at_most=options.chunks)}
    texts |= {name: cut(model.tokenize(text), at_most=OTHER_CHUNKS) for name, text in others.items()}
    del model
    cases = {}
    for preset in options.presets:
        theirs, ours = folder / f"{preset}.gguf", folder / f"{preset}-bytes.gguf"
        make_preset(options.model, importance, theirs, preset)
        started = time.perf_counter()
        made = quantize_to_size(
            options.model,
            ours,
            theirs.stat().st_size,
            wikitext,
            work=Work(folder, options.threads, options.rounds, is_kept=True),
        )
        wall_s = time.perf_counter() - started
        compared = measure_files(options.model, [ours, theirs], texts, options.threads)
        cases[preset] = {
            "llama_cpp_bytes": theirs.stat().st_size,
            "budget_bytes": ours.stat().st_size,
            "wall_s": wall_s,
            "written": made.verdict.chosen.name,
            "certificate": made.certificate,
            "texts": {
                name: {
                    "budget": compared[0][name].to_dict(),
                    "llama_cpp": compared[1][name].to_dict(),
                    "reduction": reduction(compared[0][name], compared[1][name]).to_dict(),
                }
                for name in texts
            },
        }
        print(
            preset, json.dumps({name: case["reduction"] for name, case in cases[preset]["texts"].items()}), flush=True
        )
    return cases


def main(arguments: Sequence[str]) -> int:
    """Measure one model; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--presets", type=lambda text: text.split(","), default=["Q4_K_M", "IQ4_NL", "Q4_0"])
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="budget")
    parser.add_argument("--rounds", type=int, default=MAX_ROUNDS, help="of trades between groups of matrices")
    parser.add_argument("--work", type=Path, help="a folder that keeps what is measured, for an interrupted run")
    options = parser.parse_args(arguments)
    if not options.model.is_file():
        parser.error(f"no file {options.model}")
    with contextlib.ExitStack() as stack:
        folder = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.model.parent)))
        folder.mkdir(exist_ok=True)
        document = {
            "command": recorded_command(arguments).replace("peers.py", "budget.py"),
            "date": datetime.date.today().isoformat(),
            "checkout": describe_checkout(REPOSITORY),
            "machine": describe_machine(),
            "model": {"name": options.model.name, "sha256": hash_file(options.model)},
            "presets": run(options, folder),
        }
    path = free_result_path(options.name)
    save(document, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
