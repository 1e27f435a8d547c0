"""What `madang tune` makes of the starter: the recipes before and after, other rates, QLoRA, and a run that is killed.

    python benchmarks/tuning.py FOLDER --work FOLDER [--only NAMES] [--threads N]

FOLDER is the starter's (`madang convert smollm2:135m FOLDER --dtype f32`). Every run is the command itself, in a
process of its own. One is killed (SIGKILL) as soon as its log has half of the steps, and resumed; what it learnt must
be what the same run learnt without that. QLoRA is set against LoRA item by item. Another seed holds other examples out,
too. What is done lies in --work, so what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import physical_cores
from madang.evaluation.measures import difference, is_noise
from own_engine import DATA, results

EXTRACTION = ("english-extraction", DATA / "english" / "gsm8k_test.jsonl")
KOREAN = ("korean-qa", DATA / "korean" / "chatbot_data.csv")
SIZES = ("--examples", "600", "--epochs", "1", "--batch-tokens", "512", "--row-tokens", "512")
RUNS: dict[str, tuple[tuple[str, Path], tuple[str, ...]]] = {
    "extraction, lora": (EXTRACTION, ()),
    "extraction, lora, killed": (EXTRACTION, ()),
    "extraction, lora, seed 1": (EXTRACTION, ("--seed", "1")),
    "extraction, lora, 3e-4": (EXTRACTION, ("--learning-rate", "3e-4")),
    "extraction, qlora": (EXTRACTION, ("--method", "qlora")),
    "korean, lora": (KOREAN, ()),
    "korean, lora, 3e-4": (KOREAN, ("--learning-rate", "3e-4")),
}
PAIRS = (
    ("extraction, lora, killed", "extraction, lora"),
    ("extraction, qlora", "extraction, lora"),
)
COMMAND = "import sys; from madang.cli.main import main; sys.exit(main(sys.argv[1:]))"


class Bench:
    """Runs of one work folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        text = (DATA / "english" / "wikitext2_test.txt").read_text(encoding="utf-8")[:14_000]
        self.text: Path = options.work / "wikitext2_test_part.txt"
        self.text.write_text(text, encoding="utf-8")

    def home(self, name: str) -> Path:
        """The home folder of a run."""
        found: Path = self.options.work / name.replace(", ", "-").replace(" ", "-")
        return found

    def run(self, name: str) -> None:
        """Train it."""
        (recipe, data), more = RUNS[name]
        arguments = ["tune", recipe, "--model", f"file:{self.options.folder.absolute()}", "--data", str(data), *SIZES]
        arguments += ["--forgetting", str(self.text), "--threads", str(self.options.threads), *more]
        if not name.endswith("killed"):
            self.call(name, arguments).wait()
            return
        process = self.call(name, arguments)
        half = self.steps(self.home("extraction, lora")) // 2
        while self.steps(self.home(name)) < half:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended by itself")
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        print(f"{name}: killed after step {self.steps(self.home(name))}", file=sys.stderr)
        self.call(name, ["tune", "--resume", self.folder(self.home(name)).name]).wait()

    def call(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """The command, begun."""
        home = self.home(name)
        home.mkdir(parents=True, exist_ok=True)
        with (home / "told.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", COMMAND, *arguments],
                env={**os.environ, "MADANG_HOME": str(home)},
                stdout=log,
                stderr=log,
            )

    @staticmethod
    def folder(home: Path) -> Path:
        """The run in a home folder."""
        return next((home / "runs").iterdir())

    def steps(self, home: Path) -> int:
        """How many its log has."""
        try:
            lines = (self.folder(home) / "log.jsonl").read_text(encoding="utf-8").splitlines()
        except (OSError, StopIteration):
            return 0
        return sum('"grad_norm"' in line for line in lines)

    def figures(self, name: str) -> dict[str, Any]:
        """What is told of a run."""
        folder = self.folder(self.home(name))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
        kept = ("training", "before", "after", "difference", "answers")
        shown = {key: value for key, value in result["config"].items() if key not in ("model", "data", "forgetting")}
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        return {
            "config": shown,
            "planned": result["plan"],
            **{key: result[key] for key in kept},
            "adapter_sha256": hashlib.sha256(adapter).hexdigest(),
            "losses": [line["loss"] for line in log if "loss" in line],
        }

    def pair(self, name: str, other: str) -> dict[str, Any]:
        """Loss and exact matches of a run less those of another, item by item."""
        new, old = (
            json.loads((self.folder(self.home(run)) / "after.json").read_text())["scores"]["held_out"]
            for run in (name, other)
        )
        counts = {"nats": old["tokens"], "exact": [1] * len(old["exact"])}
        found = {key: difference(new[key], old[key], counts[key]) for key in ("nats", "exact")}
        return {
            key: None
            if one is None
            else {"value": one[0], "low": one[1], "high": one[2], "within_noise": is_noise(one)}
            for key, one in found.items()
        }


def main() -> int:
    """Train what is missing, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default=";".join(RUNS), help="names with ';' between them")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--name", default="tuning")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.model = options.folder / "model.safetensors"
    bench = Bench(options)
    names = options.only.split(";")
    for name in names:
        if not list(bench.home(name).glob("runs/*/result.json")):
            begun = time.perf_counter()
            bench.run(name)
            print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    arguments = [word if Path(word).name == word else Path(word).name for word in sys.argv[1:]]
    options.command = shlex.join(["python", "benchmarks/tuning.py", *arguments])
    with results(options) as document:
        document["runs"] = {name: bench.figures(name) for name in names}
        document["pairs"] = {
            f"{one} - {other}": bench.pair(one, other) for one, other in PAIRS if {one, other} <= set(names)
        }
    for name, own in document["runs"].items():
        for when in ("before", "after"):
            held = own[when]["held_out"]
            text = next(iter(own[when]["texts"].values()))["perplexity"]["value"]
            exact = held["exact_match"]
            print(
                f"{name}, {when}: loss {held['loss']['value']:.3f}, exact {exact['value']:.2f} "
                f"[{exact['low']:.2f}, {exact['high']:.2f}] of {held['n']}, wikitext {text:.1f}"
            )
    print(json.dumps(document["pairs"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
