"""A tiny random model as a folder, some examples to learn, and runs of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from madang.hardware import probe_machine
from madang.training.config import TuneConfig
from madang.training.tuning import Tuned, prepare, tune
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder

TINY = TinyModel("tiny", tied=True)


def write_model(folder: Path, model: TinyModel = TINY) -> Path:
    """The folder of a model with two layers and a token per byte."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_folder(write_checkpoint(model, folder.with_suffix(".gguf")), folder)
    return folder


def write_examples(path: Path, n: int = 40) -> Path:
    """Questions whose answers follow from them."""
    rows = [
        {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word * 2}]}
        for word in (f"{chr(97 + k % 26)}{chr(97 + k * 7 % 26)}{k}" for k in range(n))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tiny_config(folder: Path, **changes: Any) -> TuneConfig:
    """A run of a few steps of what lies in ``folder``; model and examples are written where they are not there."""
    model, data = folder / "model", folder / "data.jsonl"
    if not model.exists():
        write_model(model)
        write_examples(data)
    text = folder / "text.txt"
    text.write_text("It rained. The road was wet, and nobody went out.\n" * 40)
    usual = TuneConfig(
        str(model),
        str(data),
        rank=4,
        steps=4,
        batch_tokens=256,
        evaluate_every=2,
        checkpoint_every=2,
        validation_share=0.2,
        dtype="float32",
        threads=1,
        forgetting=str(text),
    )
    return replace(usual, **changes)


def run(config: TuneConfig, home: Path, **options: Any) -> Tuned:
    """All of it."""
    return tune(prepare(config, home, probe_machine(home, gpus=False)), home, **options)


def losses(tuned: Tuned) -> list[float]:
    """Of the steps."""
    return [entry["loss"] for entry in tuned.run.journal().entries() if "loss" in entry]
