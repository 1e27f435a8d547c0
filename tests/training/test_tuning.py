"""Whole runs of a tiny model."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from madang.core.errors import AdapterMismatch, InvalidRequest, NotEnoughDisk, NotEnoughMemory, TrainingFailed
from madang.hardware import Machine
from madang.training.runs import find_run
from tests.parity.checkpoints import BYTE_TOKENS, TinyModel, random_weights, write_checkpoint, write_folder
from tests.training.tiny_runs import losses, run, tiny_config, write_examples, write_model

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("peft", reason="training needs the extra 'train'")


@contextmanager
def started(home: Path, *words: str, launcher: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """``madang tune`` in a process group of its own, of which nothing is left in the end."""
    environment = {**os.environ, "MADANG_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "madang.cli", "tune", *words]
    said = home.with_suffix(".err")
    with said.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(home: Path, *words: str, launcher: tuple[str, ...] = ()) -> Path:
    """A run from its start to its end; its folder."""
    with started(home, *words, launcher=launcher) as process:
        assert process.wait(timeout=240) == 0, home.with_suffix(".err").read_text()[-2000:]
    return only_run(home)


def words_of(path: Path, **changes: Any) -> list[str]:
    config = tiny_config(path, **changes).to_dict()
    file = path / "run.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
    file.write_text("\n".join(lines))
    return [str(file)]


def only_run(home: Path) -> Path:
    (found,) = (home / "runs").glob("tune-*")
    return found


class Acting:
    """Looks on, and does something after a step."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._step, self._act = step, act

    def stepped(self, log: Any, n_steps: int, left_s: float) -> None:
        if log.step == self._step:
            self._act()

    def judged(self, step: int, loss: float, is_best: bool) -> None:
        pass

    def asked(self, what: str, done: int, total: int) -> None:
        pass


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "lora"},
        {"method": "lora", "rslora": True, "dora": True, "gradient_checkpointing": True},
        {"method": "qlora"},
        {"method": "full", "learning_rate": 3e-3},
        {"method": "lora", "dtype": "bfloat16"},
    ],
    ids=["lora", "dora", "qlora", "full", "bfloat16"],
)
def test_every_method_learns_and_is_compared_with_its_base(tmp_path: Path, changes: dict[str, Any]) -> None:
    if changes["method"] == "qlora":
        pytest.importorskip("bitsandbytes", reason="qlora needs the extra 'train'")
    tuned = run(tiny_config(tmp_path, steps=12, learning_rate=changes.pop("learning_rate", 1e-2), **changes), tmp_path)
    assert tuned.result is not None
    held_out = tuned.result["difference"]["loss"]
    assert held_out["value"] < 0 and not held_out["within_noise"]
    assert tuned.result["before"]["held_out"]["loss"]["value"] > tuned.result["after"]["held_out"]["loss"]["value"]
    assert list(tuned.result["before"]["texts"]) == ["text"]
    assert tuned.run.report.read_text().count("<svg") == 1
    made = tuned.run.model if changes["method"] == "full" else tuned.run.adapter
    assert {path.name for path in made.glob("*.safetensors")}


def test_an_adapter_is_one_that_the_engine_reads_and_another_run_goes_on_from(tmp_path: Path) -> None:
    from madang.formats.adapters import read_adapter
    from madang.formats.families import describe_folder

    first = run(tiny_config(tmp_path), tmp_path)
    read_adapter(first.run.adapter, describe_folder(tmp_path / "model"))
    second = run(tiny_config(tmp_path, adapter=str(first.run.adapter)), tmp_path)
    assert first.result is not None and second.result is not None
    after, before = first.result["after"]["held_out"], second.result["before"]["held_out"]
    assert before["loss"]["value"] == pytest.approx(after["loss"]["value"], rel=1e-5)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    made = run(tiny_config(tmp_path), tmp_path)
    other = write_model(tmp_path / "other", TinyModel("other", n_embd=32, n_heads=2, n_kv_heads=1, tied=True))
    with pytest.raises(AdapterMismatch):
        run(tiny_config(tmp_path, model=str(other), adapter=str(made.run.adapter)), tmp_path)


def test_a_run_that_was_ended_comes_to_the_same_losses(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, steps=6, dropout=0.2)
    whole = run(config, tmp_path / "whole")

    stop = Event()
    ended = run(config, tmp_path / "ended", stop=stop, watcher=Acting(3, stop.set))
    assert ended.outcome.ended == "interrupted" and ended.result is None
    again = run(config, tmp_path / "ended", run=find_run(tmp_path / "ended", ended.run.id))
    assert losses(again) == losses(whole)
    assert again.result is not None and whole.result is not None
    assert again.result["after"] == whole.result["after"]


def test_a_run_on_a_full_disk_keeps_its_checkpoint_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    limits = pytest.importorskip("resource", reason="needs a limit on the size of files")
    config = tiny_config(tmp_path, steps=6)
    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    fill = Acting(3, lambda: limits.setrlimit(limits.RLIMIT_FSIZE, (8000, before[1])))
    try:
        with pytest.raises(NotEnoughDisk) as caught:
            run(config, tmp_path / "full", watcher=fill)
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    assert caught.value.folder.endswith("checkpoints")
    folder = only_run(tmp_path / "full")
    assert [path.name for path in (folder / "checkpoints").glob("*step-*")] == ["step-00000002"]
    again = run(config, tmp_path / "full", run=find_run(tmp_path / "full", folder.name))
    assert losses(again) == losses(run(config, tmp_path / "whole"))


def test_a_killed_run_comes_to_the_same_losses(tmp_path: Path) -> None:
    words = words_of(tmp_path, steps=40)
    with started(tmp_path / "killed", *words) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if any((tmp_path / "killed").glob("runs/tune-*/checkpoints/step-*[02468]")):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    folder = only_run(tmp_path / "killed")
    assert not (folder / "result.json").exists()
    finish(tmp_path / "killed", "--resume", folder.name)
    found = [
        [json.loads(line).get("loss") for line in (path / "log.jsonl").read_text().splitlines()]
        for path in (folder, finish(tmp_path / "whole", *words))
    ]
    assert found[0] == found[1]


LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    "accelerate": (
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    ),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_two_processes_give_the_losses_of_one(tmp_path: Path, name: str) -> None:
    config = tiny_config(tmp_path, batch_tokens=400)
    one = run(config, tmp_path / "one").result
    path = finish(tmp_path / "two", *words_of(tmp_path, batch_tokens=400), launcher=LAUNCHERS[name])
    two = json.loads((path / "result.json").read_text())
    assert one is not None and (one["training"]["processes"], two["training"]["processes"]) == (1, 2)
    assert two["training"]["final_loss"] == pytest.approx(one["training"]["final_loss"], rel=1e-4)
    assert two["after"]["held_out"]["loss"]["value"] == pytest.approx(
        one["after"]["held_out"]["loss"]["value"], rel=1e-4
    )


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = TinyModel("broken")
    weights = random_weights(model, np.random.default_rng(0))
    weights["model.embed_tokens.weight"][BYTE_TOKENS - 256 + ord("~")] = math.nan  # in one example only
    write_folder(write_checkpoint(model, tmp_path / "model.gguf", weights=weights), tmp_path / "model")
    held_out, data = write_examples(tmp_path / "held_out.jsonl", 5), write_examples(tmp_path / "data.jsonl")
    rows = data.read_text().splitlines()
    data.write_text("\n".join([*rows[:-1], rows[-1].replace("say", "~")]) + "\n")
    with pytest.raises(TrainingFailed) as caught:
        run(tiny_config(tmp_path, steps=20, validation=str(held_out), checkpoint_every=1), tmp_path)
    assert caught.value.step > 1
    assert caught.value.checkpoint is not None
    kept = Path(caught.value.checkpoint)
    assert kept.name == f"step-{caught.value.step - 1:08d}"
    assert (kept / "weights.safetensors").exists()


def test_what_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    from madang.training.tuning import prepare

    small = Machine("Linux", "x86_64", physical_cores=1, ram_available_bytes=200_000_000)
    with pytest.raises(NotEnoughMemory) as caught:
        prepare(tiny_config(tmp_path), tmp_path, small)
    assert caught.value.needed_bytes > 200_000_000
    assert "weights" in caught.value.message and caught.value.hint is not None


def test_data_without_a_usable_row_is_refused_with_a_line(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    Path(config.data).write_text('{"messages": []}\n')
    with pytest.raises(InvalidRequest):
        run(config, tmp_path)


def test_a_run_stops_early_when_the_held_out_loss_gets_worse(tmp_path: Path) -> None:
    config = replace(tiny_config(tmp_path, steps=40, learning_rate=0.9), evaluate_every=1, patience=2)
    tuned = run(config, tmp_path)
    assert tuned.outcome.ended == "early stop" and tuned.outcome.steps < 40
