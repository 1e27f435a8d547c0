"""What healing brings back of a pruned model, by distillation and by plain fine-tuning on the same tokens.

    python benchmarks/distilling.py MODEL.gguf --work FOLDER [--only prune,teacher,kd,plain,report] [--sequences N]

MODEL is the teacher; its folder in float32 is pruned from 30 to --layers layers by block influence on wikitext-2's
validation part, and healed on --sequences pieces of 256 tokens of it, spread over its first nine tenths, once. Both
ways have the same student, sequences, order, rate and steps. All are read on wikitext-2's test part, and on
Shakespeare, which is far from what was learnt on. What is done lies in --work, so what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from machine import physical_cores
from madang.conversion.to_folder import to_folder
from madang.core.settings import load_settings
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.quantization.divergence import cut
from madang.runtime import open_model
from madang.training.certificate import certify, recovered
from madang.training.distilling import DistilConfig, TeacherLogits, distil, keep_teacher_logits
from madang.training.examples import Encoded
from madang.training.pruning import Cut, block_influence, least_influential, write_cut
from own_engine import results
from texts import ENGLISH

CHUNK_TOKENS = 256
SHARE = 0.9  # of the validation part, to learn on
TOP = 64
ARMS = {"kd": 0.5, "plain": 0.0}


class Run:
    """One work folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.base, self.pruned = self.work / "base", self.work / f"pruned-{options.layers}"
        words = (ENGLISH / "wikitext2_valid.txt").read_text(encoding="utf-8")
        self.words = words[: int(len(words) * SHARE)]

    def open(self, path: Path) -> Any:
        """An engine; the caller closes it."""
        return open_model(f"file:{path.absolute()}", load_settings({"threads": self.options.threads}, {}))

    def note(self, step: str, seconds: float, **facts: Any) -> None:
        """Keep how long a step took."""
        with (self.work / "steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": seconds, **facts}) + "\n")

    def prune(self) -> None:
        """Make the folder and cut it."""
        if not self.base.exists():
            to_folder(self.options.model, self.base, TensorType.F32)
        begun = time.perf_counter()
        engine = self.open(self.base)
        influence = block_influence(engine, cut(engine.tokenize(self.words), CHUNK_TOKENS, at_most=8))
        engine.close()
        kept = least_influential(influence, self.options.layers)
        write_cut(self.base, self.pruned, Cut(layers=kept))
        self.note("prune", time.perf_counter() - begun, influence=influence.tolist(), layers=kept)

    def lesson(self) -> tuple[Any, list[Encoded]]:
        """The teacher, and what is learnt; the caller closes the teacher."""
        engine = self.open(self.options.model)
        chunks = cut(engine.tokenize(self.words), CHUNK_TOKENS, at_most=self.options.sequences)
        return engine, [Encoded(np.array(chunk, np.int32), np.array(chunk, np.int32)) for chunk in chunks]

    def logits(self) -> tuple[TeacherLogits, list[Encoded]]:
        """Compute what is missing of them."""
        begun = time.perf_counter()
        engine, items = self.lesson()
        found = keep_teacher_logits(
            self.work / f"teacher-{self.options.sequences}",
            engine,
            items,
            teacher_name=self.options.model.name,
            n_top=TOP,
        )
        engine.close()
        self.note("teacher", time.perf_counter() - begun, tokens=CHUNK_TOKENS * len(items))
        return found, items

    def heal(self, arm: str) -> None:
        """Teach one student."""
        teacher, items = self.logits()
        done = distil(
            self.pruned,
            self.work / arm,
            items,
            teacher,
            DistilConfig(
                soft_weight=ARMS[arm],
                learning_rate=self.options.rate,
                checkpoint_s=60,
                precision=self.options.precision,
            ),
            run_folder=self.work / f"run-{arm}",
            n_threads=self.options.threads,
            tell=lambda line: print(line, file=sys.stderr),
        )
        self.note(arm, done.seconds, tokens=done.tokens, steps=done.step)

    def report(self) -> dict[str, Any]:
        """Figures of all, on both texts."""
        models = {"base": self.base, "pruned": self.pruned, "kd": self.work / "kd", "plain": self.work / "plain"}
        tokenizer, found = MutableModel(self.pruned, self.options.threads), {}
        for name in self.options.texts.split(","):
            words = (ENGLISH / f"{name}.txt").read_text(encoding="utf-8")
            chunks = cut(tokenizer.tokenize(words), CHUNK_TOKENS, at_most=self.options.chunks)
            is_first = name == "wikitext2_test"
            figures = certify(models, chunks, n_threads=self.options.threads, with_speed=is_first)
            values = {key: own["perplexity"]["value"] for key, own in figures["models"].items()}
            figures["recovered"] = {arm: recovered(values["base"], values["pruned"], values[arm]) for arm in ARMS}
            found[name] = figures
        return found


def main() -> int:
    """Do what is asked for, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="prune,teacher,kd,plain,report")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--sequences", type=int, default=80)
    parser.add_argument("--chunks", type=int, default=64, help="of each text that is reported on")
    parser.add_argument("--texts", default="wikitext2_test,tinyshakespeare")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--name", default="distilling")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    steps: dict[str, tuple[Path, Callable[[], Any]]] = {
        "prune": (run.pruned, run.prune),
        "teacher": (options.work / "none", run.logits),
        "kd": (options.work / "kd", lambda: run.heal("kd")),
        "plain": (options.work / "plain", lambda: run.heal("plain")),
    }
    for name in options.only.split(","):
        if name in steps and not steps[name][0].exists():
            steps[name][1]()
    if "report" in options.only.split(","):
        arguments = [word if Path(word).name == word else Path(word).name for word in sys.argv[1:]]
        options.command = shlex.join(["python", "benchmarks/distilling.py", *arguments])
        with results(options) as document:
            document["steps"] = [json.loads(line) for line in (options.work / "steps.jsonl").read_text().splitlines()]
            document["found"] = run.report()
        for text, figures in document["found"].items():
            for name, own in figures["models"].items():
                print(f"{text} {name}: perplexity {own['perplexity']['value']:.2f}, KL {own['mean_kl']:.3f}")
            print(json.dumps(figures["recovered"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
