"""What a run takes in memory beside what its plan said: two steps of `madang tune` at each point.

    python benchmarks/training_memory.py run FOLDER > FILE
    python benchmarks/training_memory.py one FOLDER METHOD DTYPE ROW_TOKENS [--checkpointing]

FOLDER is the starter's (`madang convert smollm2:135m FOLDER --dtype f32`). Each point is a process of its own, whose
peak is ru_maxrss: pages of mapped files count. Rows are full: short examples that differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

METHODS = ("lora", "full", "qlora")
ROW_TOKENS = (256, 1024)
WORDS = ("the", "rain", "in", "spain", "falls", "mainly", "on", "the", "plain")


def write_rows(path: Path, n: int) -> None:
    """Chats with answers of some 30 tokens."""
    rows = (
        {
            "messages": [
                {"role": "user", "content": f"Say it: {number}"},
                {"role": "assistant", "content": " ".join(WORDS[(number + k) % len(WORDS)] for k in range(30))},
            ]
        }
        for number in range(n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def one(folder: Path, method: str, dtype: str, row_tokens: int, checkpointing: bool) -> dict[str, Any]:
    """A run, in this process."""
    from madang.hardware import probe_machine
    from madang.training.config import config_of
    from madang.training.tuning import prepare, tune

    with tempfile.TemporaryDirectory() as home:
        data, text = Path(home, "rows.jsonl"), Path(home, "text.txt")
        write_rows(data, 120)
        text.write_text("It rained. The road was wet, and nobody went out.\n")
        config = config_of(
            {
                "model": str(folder),
                "data": str(data),
                "method": method,
                "dtype": dtype,
                "row_tokens": row_tokens,
                "batch_tokens": 2 * row_tokens,
                "gradient_checkpointing": checkpointing,
                "steps": 2,
                "validation_examples": 1,
                "threads": 1,
                "forgetting": str(text),
            }
        )
        prepared = prepare(config, Path(home), probe_machine(Path(home), gpus=False))
        tune(prepared, Path(home))
    plan = prepared.plan.to_dict()["memory"]
    used_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    point = {"method": method, "dtype": dtype, "row_tokens": row_tokens, "checkpointing": checkpointing}
    return {**point, "planned": plan, "used_bytes": used_bytes, "ratio": plan["total_bytes"] / used_bytes}


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    single = verbs.add_parser("one")
    for verb in (verbs.add_parser("run"), single):
        verb.add_argument("folder", type=Path)
    single.add_argument("method", choices=METHODS)
    single.add_argument("dtype", choices=("float32", "bfloat16"))
    single.add_argument("row_tokens", type=int)
    single.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()
    if given.verb == "one":
        print(json.dumps(one(given.folder, given.method, given.dtype, given.row_tokens, given.checkpointing)))
        return
    points = [
        *product(METHODS, ("bfloat16",), ROW_TOKENS, (False, True)),
        *product(("lora",), ("float32",), ROW_TOKENS, (False,)),
    ]
    for method, dtype, row_tokens, checkpointing in points:
        words = [sys.executable, __file__, "one", str(given.folder), method, dtype, str(row_tokens)]
        words += ["--checkpointing"] if checkpointing else []
        print(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
