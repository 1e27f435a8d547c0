"""Whether `madang run FILE` answers as the model that was tuned, on the run's own held-out examples.

    python benchmarks/exporting.py RUN FILE… --data FILE [--threads N]

RUN is the folder of a finished LoRA run of `madang tune` on the recipe english-extraction, each FILE a GGUF file that
`madang export RUN` made of it, and --data the questions that it learned from. The tuned model is the base in float32
with the adapter beside it, not folded in, as torch and PEFT compute it. Every held-out question is put to it and, in a
process of its own, to `madang run FILE --temperature 0`. Answers are compared as texts, and with what the rule wants.
KL(tuned || FILE) is of the tuned model's own answers, in nats per token of answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from machine import physical_cores
from madang.formats.tokenizers import Tokenizer, decode
from madang.quantization.divergence import KeptLogits, measure
from madang.training.config import TuneConfig
from madang.training.data import read_data
from madang.training.examples import Encoded, encode
from madang.training.examples.encoding import NO_LOSS
from madang.training.exporting import Trained, find_trained
from madang.training.exporting.sides import NativeSide, TorchSide
from madang.training.extraction import extraction_examples
from madang.training.models import FolderModel, trainable
from madang.training.runs import RunFolder
from own_engine import results
from peers import describe_model, recorded_command

MAX_TOKENS = 64


def main(arguments: list[str]) -> None:
    """Ask both, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=physical_cores())
    options = parser.parse_args(arguments)
    options.command = recorded_command(arguments).replace("peers.py", "exporting.py")
    options.name, options.rounds, options.model = "exporting", 1, options.files[0]
    home = options.run.parents[1]
    trained, run = find_trained(str(options.run), home), RunFolder(options.run)
    config = replace(run.config(), data=str(options.data))
    model = trainable(config.model, home)
    asked = questions(config, model)
    with results(options) as document, TemporaryDirectory() as work:
        document["held_out"] = len(asked)
        document["exact_match_before"] = (run.read("result") or {})["before"]["held_out"]["exact_match"]["value"]
        tuned = ask_tuned(trained, model.tokenizer, asked, Path(work))
        document["tuned"] = {"exact_match": share(tuned.said, tuned.wanted), "said": tuned.said, "wanted": tuned.wanted}
        print(f"tuned, in torch: {share(tuned.said, tuned.wanted):.1%} of {len(asked)} exact")
        document["files"] = [compared(file, tuned, options.threads) for file in options.files]


@dataclass(frozen=True)
class Tuned:
    """What the tuned model was asked, in words and tokens, what it said, what it should say, and its logits."""

    questions: list[str]
    prompts: list[list[int]]
    texts: list[list[int]]
    said: list[str]
    wanted: list[str]
    logits: KeptLogits


def questions(config: TuneConfig, model: FolderModel) -> list[tuple[str, Encoded]]:
    """The held-out examples, each with its question in words, as a person would type it."""
    said = {}
    for example in extraction_examples(Path(config.data)).examples:
        encoded = encode([example], model.tokenizer, model.template, max_tokens=4096, too_long="refuse").items[0]
        said[tuple(prompt_of(encoded))] = example.messages[0].content
    held_out = read_data(config, model, 2048).held_out
    return [(said[tuple(prompt_of(item))], item) for item in held_out]


def prompt_of(item: Encoded) -> list[int]:
    """The tokens before the answer."""
    return [int(token) for token in item.input_ids[: int(np.flatnonzero(item.labels != NO_LOSS)[0])]]


def ask_tuned(trained: Trained, tokenizer: Tokenizer, asked: list[tuple[str, Encoded]], work: Path) -> Tuned:
    """Greedy answers of base and adapter in torch."""

    def words(tokens: Any) -> str:
        return decode(tokenizer, [int(token) for token in tokens if int(token) not in tokenizer.end_ids])

    side = TorchSide(trained.folder, trained.adapter, trained.folder)
    prompts = [prompt_of(item) for _, item in asked]
    answers = [side.greedy(prompt, MAX_TOKENS) for prompt in prompts]
    texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return Tuned(
        questions=[question for question, _ in asked],
        prompts=prompts,
        texts=texts,
        said=[words(answer) for answer in answers],
        wanted=[words(item.input_ids[len(prompt) :]) for prompt, (_, item) in zip(prompts, asked, strict=True)],
        logits=KeptLogits(work, side, texts, next(side.logits(prompts[0][:1])).shape[-1]),
    )


def compared(file: Path, tuned: Tuned, threads: int) -> dict[str, Any]:
    """A file's row."""
    side = NativeSide(file, threads)
    found = measure(tuned.logits, side, tuned.texts)
    side.close()
    starts = (0, *found.ends[:-1])
    kl = np.concatenate(
        [
            found.kl[start + len(prompt) - 1 : end]
            for start, end, prompt in zip(starts, found.ends, tuned.prompts, strict=True)
        ]
    )
    said = [run_once(file, question, threads) for question in tuned.questions]
    row = {
        **describe_model(file),
        "same_answers": sum(one == other for one, other in zip(said, tuned.said, strict=True)),
        "exact_match": share(said, tuned.wanted),
        "mean_kl": float(kl.mean()),
        "largest_kl": float(kl.max()),
        "answer_tokens": len(kl),
        "said": said,
    }
    print(
        f"{file.name}: {row['same_answers']} of {len(said)} answers the same, {row['exact_match']:.1%} exact, "
        f"KL {row['mean_kl']:.2g} nats a token"
    )
    return row


def run_once(file: Path, question: str, threads: int) -> str:
    """What a person gets at the command line."""
    command = [sys.executable, "-m", "madang.cli", "run", str(file), question, "--json", "--temperature", "0"]
    command += ["--max-tokens", str(MAX_TOKENS), "--threads", str(threads)]
    answered = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    text: str = json.loads(answered.stdout)["text"]
    return text


def share(answers: list[str], wanted: list[str]) -> float:
    """Of answers that are what was wanted."""
    return sum(one == other for one, other in zip(answers, wanted, strict=True)) / len(wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
