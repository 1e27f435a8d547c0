"""What healing brings back of a pruned model, by distillation and by plain fine-tuning on the same tokens.

    python benchmarks/distilling.py MODEL.gguf --work FOLDER [--only prune,teacher,kd,plain,report] [--sequences N]

MODEL is the teacher; its folder in float32 is pruned from 30 to --layers layers by block influence on the texts of
--learn, and healed once on --sequences pieces of 256 tokens, as many of each text, spread over its first nine tenths,
and on --own more that the teacher writes: it begins with a word by chance and samples (as LLM-QAT does,
arXiv:2305.17888), so that the student sees what the teacher knows of other things, too. Both ways have the same
student, sequences, order, rate and steps; only the soft weight differs. All are read on texts that neither saw:
wikitext-2's test part is like what was learnt on, Shakespeare and code are not. What is done lies in --work, so what
was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from machine import physical_cores
from madang.conversion.to_folder import to_folder
from madang.core import Request, SamplingParams, collect
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
from texts import TEXTS

CHUNK_TOKENS = 256
SHARE = 0.9  # of each text, to learn on
TOP = 64
ARMS = ("kd", "plain")


class Run:
    """One work folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.base, self.pruned = self.work / "base", self.work / f"pruned-{options.layers}"
        texts = [TEXTS[name]() for name in options.learn.split(",")]
        self.texts = [text[: int(len(text) * SHARE)] for text in texts]

    def open(self, path: Path) -> Any:
        """An engine; the caller closes it."""
        return open_model(f"file:{path.absolute()}", load_settings({"threads": self.options.threads}, {}))

    def pieces(self, engine: Any, n: int) -> list[list[int]]:
        """That many, as many of each text."""
        each = n // len(self.texts)
        found = [piece for text in self.texts for piece in cut(engine.tokenize(text), CHUNK_TOKENS, at_most=each)]
        if len(found) < n // len(self.texts) * len(self.texts):
            raise ValueError(f"the texts have only {len(found)} pieces")
        return found

    def own(self, engine: Any) -> list[list[int]]:
        """Pieces that the teacher writes, eight at a time, each from a word and a seed of its own."""
        if self.options.own == 0:
            return []
        kept = self.work / f"own-{self.options.own}.json"
        if not kept.exists():
            n_words = json.loads((self.base / "config.json").read_text())["vocab_size"]
            words = np.random.default_rng(0).integers(1000, n_words, self.options.own * 2).tolist()

            def write(number: int) -> str:
                sampling = SamplingParams(temperature=1.0, top_k=0, top_p=0.95, seed=number)
                begin = engine.detokenize([words[number]])
                return begin + collect(engine.generate(Request(prompt=begin, sampling=sampling, max_tokens=256))).text

            with ThreadPoolExecutor(8) as pool:
                texts = list(pool.map(write, range(len(words))))
            kept.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        text = "\n\n".join(json.loads(kept.read_text(encoding="utf-8")))
        found = cut(engine.tokenize(text), CHUNK_TOKENS, at_most=self.options.own)
        if len(found) < self.options.own:
            raise ValueError(f"the teacher wrote only {len(found)} pieces")
        return found

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
        influence = block_influence(engine, self.pieces(engine, 12))
        engine.close()
        kept = least_influential(influence, self.options.layers)
        write_cut(self.base, self.pruned, Cut(layers=kept))
        self.note("prune", time.perf_counter() - begun, influence=influence.tolist(), layers=kept)

    def lesson(self) -> tuple[Any, list[Encoded]]:
        """The teacher, and what is learnt; the caller closes the teacher."""
        engine = self.open(self.options.model)
        chunks = self.pieces(engine, self.options.sequences) + self.own(engine)
        return engine, [Encoded(np.array(chunk, np.int32), np.array(chunk, np.int32)) for chunk in chunks]

    def logits(self) -> tuple[TeacherLogits, list[Encoded]]:
        """Compute what is missing of them."""
        begun = time.perf_counter()
        engine, items = self.lesson()
        found = keep_teacher_logits(
            self.work / f"teacher-{self.options.sequences}-{self.options.own}",
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
                soft_weight=self.options.soft_weight if arm == "kd" else 0.0,
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
            chunks = cut(tokenizer.tokenize(TEXTS[name]()), CHUNK_TOKENS, at_most=self.options.chunks)
            figures = certify(models, chunks, n_threads=self.options.threads, with_speed=not found)
            values = {key: own["perplexity"]["value"] for key, own in figures["models"].items()}
            figures["recovered"] = {arm: recovered(values["base"], values["pruned"], values[arm]) for arm in ARMS}
            arms = {arm: models[arm] for arm in reversed(ARMS)}
            paired = certify(arms, chunks, n_threads=self.options.threads, with_speed=False)["models"]["kd"]
            figures["kd_log_perplexity_above_plain"] = paired["log_perplexity_above_first"]
            found[name] = figures
        return found


def main() -> int:
    """Do what is asked for, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="prune,teacher,kd,plain,report")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--sequences", type=int, default=240)
    parser.add_argument("--own", type=int, default=480, help="pieces that the teacher writes")
    parser.add_argument("--chunks", type=int, default=64, help="of each text that is reported on")
    parser.add_argument("--texts", default="wikitext-2 test,shakespeare,code")
    parser.add_argument("--learn", default="wikitext-2 valid,meetings,arithmetic")
    parser.add_argument("--soft-weight", type=float, default=0.9)
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
            print(json.dumps(figures["recovered"] | {"kd - plain": figures["kd_log_perplexity_above_plain"]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
