"""What a run takes in memory beside what its plan said: two steps of the loop of `madang tune` at each point.

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
    from madang.training.building import build
    from madang.training.checkpoints import Checkpoints
    from madang.training.config import config_of
    from madang.training.journal import Journal
    from madang.training.loop import Training
    from madang.training.loss import Objective, takes_packed_rows
    from madang.training.tuning import prepare

    chosen = {"method": method, "dtype": dtype, "row_tokens": row_tokens, "gradient_checkpointing": checkpointing}
    with tempfile.TemporaryDirectory() as folder_name:
        home = Path(folder_name)
        write_rows(home / "rows.jsonl", 120)
        data = {"model": str(folder), "data": str(home / "rows.jsonl"), "validation_share": 0.0}
        config = config_of({**chosen, **data, "batch_tokens": 2 * row_tokens, "steps": 2, "threads": 1})
        prepared = prepare(config, home, probe_machine(home, gpus=False))
        model = build(config, prepared.plan, prepared.model, "cpu")
        objective = Objective(model, "cpu", dtype)
        Training(
            config=config,
            plan=prepared.plan,
            model=model,
            objective=objective,
            items=prepared.data.items,
            held_out=[],
            packed=takes_packed_rows(model.config, objective.causal),
            checkpoints=Checkpoints(home, prepared.plan.checkpoint_bytes),
            journal=Journal(None),
        ).run()
    used_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    planned = prepared.plan.to_dict()["memory"]
    name = f"{method}-{dtype}-{row_tokens}{'-checkpointing' if checkpointing else ''}"
    return {
        "name": name,
        **chosen,
        "planned": planned,
        "used_bytes": used_bytes,
        "ratio": planned["total_bytes"] / used_bytes,
    }


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
    found = []
    for method, dtype, row_tokens, checkpointing in points:
        words = [sys.executable, __file__, "one", str(given.folder), method, dtype, str(row_tokens)]
        words += ["--checkpointing"] if checkpointing else []
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        found.append(json.loads(said.splitlines()[-1]))
    print(json.dumps({"points": found}, indent=1))


if __name__ == "__main__":
    main()
