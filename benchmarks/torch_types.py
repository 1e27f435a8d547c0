"""Types for PyTorch beside GGUF's: bytes, memory, quality and speed of one model in each.

    python benchmarks/torch_types.py REFERENCE.gguf --work FOLDER [--only make,speed,text] [--budget] [--name NAME]

REFERENCE is a float model of references.py or train_reference.py: never the starter, whose weights lie on Q4_1's grid.
Files are made with `madang quantize`, calibrated on wikitext-2's validation part, and measured with `madang compare`'s
functions on its test part, against REFERENCE in the native engine. Those for PyTorch are computed in float32 and then
in bfloat16. Everything that is done lies in --work, so what was interrupted goes on; `--only speed` can be started when
the machine is quiet. It needs `pip install 'madang[gptq]'`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from madang.core.settings import load_settings
from madang.evaluation import ComparisonPlan, compare, enter, parse_contestants, text_of
from own_engine import results
from texts import ENGLISH, TEXTS

GGUF_TYPES = ("Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0")
TORCH_TYPES = ("NF4", "FP4", "INT8", "GPTQ", "AWQ")
VALID, TEST = ENGLISH / "wikitext2_valid.txt", ENGLISH / "wikitext2_test.txt"


def madang(work: Path, *arguments: str) -> None:
    """Run a command line. Raises CalledProcessError."""
    print("madang", shlex.join(arguments), file=sys.stderr, flush=True)
    environment = {**os.environ, "MADANG_HOME": str(work / "home")}
    subprocess.run([sys.executable, "-m", "madang.cli", *arguments], check=True, env=environment)


def gguf_files(reference: Path, work: Path, *, budget: bool) -> list[Path]:
    """Made where they are missing."""
    importance = work / "importance.gguf"
    if not importance.exists():
        madang(work, "importance", str(reference), str(VALID), "-o", str(importance))
    files = [work / f"{name}.gguf" for name in GGUF_TYPES]
    for name, file in zip(GGUF_TYPES, files, strict=True):
        if not file.exists():
            madang(work, "quantize", str(reference), str(file), "--type", name, "--importance", str(importance))
    if budget:
        file = work / "budget.gguf"
        if not file.exists():
            size = f"{(work / 'Q4_K_M.gguf').stat().st_size}B"
            texts = ("--text", str(VALID), "--held-out", str(TEST))
            madang(work, "quantize", str(reference), str(file), "--size", size, *texts)
        files.append(file)
    return files


def folders(reference: Path, work: Path, types: Sequence[str]) -> list[Path]:
    """The same for PyTorch; the first is in floats."""
    source = work / "float"
    if not source.exists():
        madang(work, "convert", str(reference), str(source))
    found = [work / name for name in types]
    for name, folder in zip(types, found, strict=True):
        if not folder.exists():
            texts = ("--text", str(VALID), "--held-out", str(TEST))
            madang(work, "quantize", str(source), str(folder), "--type", name, *texts)
    return [source, *found]


def measure(
    paths: Sequence[Path], options: argparse.Namespace, dtype: str, *, text: bool, speed: bool
) -> dict[str, Any]:
    """What `madang compare` finds; the reference is the first of ``paths``."""
    told: dict[str, Any] = {
        "home": str(options.work / "home"),
        "threads": options.threads,
        "dtype": dtype,
        "context": 1024,
    }
    settings = load_settings(told, {})
    names = [f"{path}@{'transformers' if path.is_dir() else 'native'}" for path in paths]
    plan = ComparisonPlan(
        text=text_of(TEST.name, TEXTS["wikitext-2 test"](), at_most=options.passages) if text else None,
        n_runs=options.rounds if speed else 0,
        prompt_tokens=256,
        decode_tokens=32,
    )
    document = compare(
        enter(parse_contestants(names), settings),
        settings,
        plan,
        tell=lambda what, done, total: print(f"{dtype} {what} {done}/{total}", file=sys.stderr, flush=True),
    )
    for model, path in zip(document["models"], paths, strict=True):
        model["model"] = path.name  # where it lies is this machine's business
    return document


def main() -> int:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="REFERENCE")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="make,speed,text")
    parser.add_argument("--types", default=",".join(TORCH_TYPES))
    parser.add_argument("--budget", action="store_true")
    parser.add_argument("--passages", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="torch-types", help="of the result's file")
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    steps = options.only.split(",")
    files = gguf_files(options.model, options.work, budget=options.budget)
    packed = folders(options.model, options.work, options.types.split(","))
    reference = options.model.absolute()
    cases = {"float32": [reference, *files, *packed], "bfloat16": [reference, *packed]}
    found = {}
    for dtype, paths in cases.items():
        if "speed" in steps:
            measure(paths, options, dtype, text=False, speed=True)
        if "text" in steps:
            found[dtype] = measure(paths, options, dtype, text=True, speed=True)
    if found:
        arguments = [word if Path(word).name == word else Path(word).name for word in sys.argv[1:]]
        options.command = shlex.join(["python", "benchmarks/torch_types.py", *arguments])
        with results(options) as document:
            document["compared"] = found
        for dtype, own in found.items():
            print_table(dtype, own)
    return 0


def print_table(dtype: str, found: dict[str, Any]) -> None:
    """A line per file, for docs/log.md."""
    for model in found["models"]:
        against = model["against_reference"]
        apart = None if against is None else against["divergence"]
        speed, text = model["speed"], model["text"]
        cells = [
            f"{model['label']}, {dtype}",
            f"{model['size_bytes'] / 1e6:.1f}",
            "-" if model["memory"]["loaded_bytes"] is None else f"{model['memory']['loaded_bytes'] / 1e6:.0f}",
            "-" if model["memory"]["peak_bytes"] is None else f"{model['memory']['peak_bytes'] / 1e6:.0f}",
            "-" if apart is None else f"{apart['mean_kl']['value']:.5f}",
            "-" if apart is None else f"{apart['top_1_agreement']['value']:.1%}",
            "-" if text is None else f"{next(iter(text.values()))['perplexity']['value']:.3f}",
            "-" if speed is None else f"{speed['prompt']['tokens_per_s']['median']:.0f}",
            "-" if speed is None else f"{speed['decode']['tokens_per_s']['median']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
