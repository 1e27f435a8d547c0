"""Training throughput beside a plain TRL script: the same model, examples, adapter and number of examples seen.

    python benchmarks/training.py run FOLDER [--examples 64] [--rounds 5] [--who trl,madang]
    python benchmarks/training.py one WHO FOLDER [--examples 64]

FOLDER is the starter's (`madang convert smollm2:135m FOLDER --dtype f32`); examples are spread over
shared/data/korean/chatbot_data.csv. WHO is one of: trl, a script as TRL (1.16.0; `pip install trl datasets`) documents
it, with what a processor without a card needs (use_cpu, no bfloat16, no gradient checkpointing) and all else at its
default (8 examples a step, loss on completions); madang; and madang in float32, on packed and on padded rows, to tell
what came from where. Each runs in a process of its own. Tokens are those of the examples, without padding, counted once
for each example. Only the steps are timed, by the clock and in processor time, which others disturb less.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import physical_cores
from own_engine import DATA, results

WHO = ("trl", "madang", "madang-float32", "madang-float32-padded")
EXAMPLES_A_STEP = 8  # TRL's default


def read_rows(n: int) -> list[dict[str, str]]:
    """Questions and answers, spread over the file."""
    with (DATA / "korean" / "chatbot_data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [rows[number * len(rows) // n] for number in range(n)]


def write_rows(rows: list[dict[str, str]], path: Path) -> None:
    """As chats."""
    lines = [
        {"messages": [{"role": "user", "content": row["Q"]}, {"role": "assistant", "content": row["A"]}]}
        for row in rows
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def with_trl(folder: Path, rows: list[dict[str, str]], home: Path) -> dict[str, Any]:
    """SFTTrainer over prompts and completions."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    chats = [
        {
            "prompt": [{"role": "user", "content": row["Q"]}],
            "completion": [{"role": "assistant", "content": row["A"]}],
        }
        for row in rows
    ]
    trainer = SFTTrainer(
        model=str(folder),
        args=SFTConfig(
            output_dir=str(home / "trl"),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            num_train_epochs=1,
            learning_rate=1e-3,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(chats),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    started, busy = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - busy
    logged = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    return {"seconds": seconds, "cpu_s": cpu_s, "steps": trainer.state.global_step, "losses": logged}


def with_madang(folder: Path, rows: list[dict[str, str]], home: Path, who: str) -> dict[str, Any]:
    """The loop of `madang tune`, without the comparison before and after."""
    from madang.hardware import probe_machine
    from madang.training.building import build
    from madang.training.checkpoints import Checkpoints
    from madang.training.config import TuneConfig
    from madang.training.journal import Journal
    from madang.training.loop import Training
    from madang.training.loss import Objective, takes_packed_rows
    from madang.training.tuning import prepare

    write_rows(rows, home / "rows.jsonl")
    dtype = "float32" if "float32" in who else None
    probe = TuneConfig(str(folder), str(home / "rows.jsonl"), validation_share=0.0, dtype=dtype, epochs=1.0)
    found = prepare(probe, home, probe_machine(home, gpus=False))
    batch_tokens = EXAMPLES_A_STEP * sum(found.data.lengths) // len(rows)
    config = TuneConfig(**{**probe.to_dict(), "batch_tokens": batch_tokens})
    prepared = prepare(config, home, probe_machine(home, gpus=False))
    model = build(config, prepared.plan, prepared.model, "cpu")
    objective = Objective(model, "cpu", prepared.plan.dtype.value)
    training = Training(
        config=config,
        plan=prepared.plan,
        model=model,
        objective=objective,
        items=prepared.data.items,
        held_out=[],
        packed=takes_packed_rows(model.config, objective.causal) and "padded" not in who,
        checkpoints=Checkpoints(home / "run", prepared.plan.checkpoint_bytes),
        journal=Journal(home / "log.jsonl"),
    )
    (home / "run" / "checkpoints").mkdir(parents=True)
    busy = time.process_time()
    outcome = training.run()
    cpu_s = time.process_time() - busy
    losses = [entry["loss"] for entry in training.journal.entries()]
    return {
        "seconds": outcome.seconds,
        "cpu_s": cpu_s,
        "steps": outcome.steps,
        "losses": losses,
        "tokens": outcome.tokens,
        "planned_bytes": prepared.plan.memory.total_bytes,
    }


def one(who: str, folder: Path, n_examples: int) -> dict[str, Any]:
    """One repetition, in this process."""
    rows = read_rows(n_examples)
    with tempfile.TemporaryDirectory() as home:
        found = with_trl(folder, rows, Path(home)) if who == "trl" else with_madang(folder, rows, Path(home), who)
    return {**found, "who": who, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each, and how many times faster than TRL."""
    tokens = next(run["tokens"] for run in runs if "tokens" in run)
    found: dict[str, Any] = {}
    for who in dict.fromkeys(run["who"] for run in runs):
        own = [run for run in runs if run["who"] == who]
        rates = [tokens / run["seconds"] for run in own]
        busy = [run["cpu_s"] for run in own]
        found[who] = {
            "tokens_per_cpu_s": statistics.median(tokens / one for one in busy),
            "share_of_a_core": statistics.median(run["cpu_s"] / run["seconds"] for run in own),
            "tokens_s": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
            "peak_bytes": max(run["peak_bytes"] for run in own),
            "steps": own[0]["steps"],
            "last_losses": own[0]["losses"][-3:],
        }
    for figures in found.values():
        figures["times_trl"] = figures["tokens_s"]["median"] / found["trl"]["tokens_s"]["median"]
        figures["times_trl_by_cpu"] = figures["tokens_per_cpu_s"] / found["trl"]["tokens_per_cpu_s"]
    return {"tokens": tokens, "runs": len(runs), "peers": found}


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("run", "one"):
        verb = verbs.add_parser(name)
        if name == "one":
            verb.add_argument("who", choices=WHO)
        verb.add_argument("folder", type=Path)
        verb.add_argument("--examples", type=int, default=64)
        verb.add_argument("--rounds", type=int, default=5)
        verb.add_argument("--who", dest="whom", default=",".join(WHO))
    given = parser.parse_args()
    if given.verb == "one":
        print(json.dumps(one(given.who, given.folder, given.examples)))
        return
    given.command = f"python benchmarks/training.py run {given.folder.name} --examples {given.examples}"
    given.command += f" --rounds {given.rounds} --who {given.whom}"
    given.name, given.threads, given.model = "training", physical_cores(), given.folder / "model.safetensors"
    with results(given) as document:
        document["runs"] = [repetition(who, given) for _ in range(given.rounds) for who in given.whom.split(",")]
        document["summary"] = summary(document["runs"])
    print(json.dumps(document["summary"], indent=1))


def repetition(who: str, given: argparse.Namespace) -> dict[str, Any]:
    """One, in a process of its own."""
    words = [sys.executable, __file__, "one", who, str(given.folder), "--examples", str(given.examples)]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
