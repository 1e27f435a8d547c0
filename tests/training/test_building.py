"""The torch model of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.hardware import probe_machine
from madang.training.batching import rows_of
from madang.training.building import build
from madang.training.loss import Objective
from madang.training.scoring import score_items
from madang.training.tuning import prepare
from tests.parity.checkpoints import TinyModel
from tests.training.tiny_runs import tiny_config, write_examples, write_model


def test_qlora_learns_after_it_was_scored_as_before(tmp_path: Path) -> None:
    """Widths of whole blocks: others are never repacked."""
    pytest.importorskip("bitsandbytes", reason="qlora needs the extra 'train'")
    import torch

    write_model(tmp_path / "model", TinyModel("tiny", tied=True, n_ff=128))
    write_examples(tmp_path / "data.jsonl")
    config = tiny_config(tmp_path, method="qlora", dtype="bfloat16")
    prepared = prepare(config, tmp_path, probe_machine(tmp_path, gpus=False))
    model = build(config, prepared.plan, prepared.model, "cpu")
    objective = Objective(model, "cpu", "bfloat16")
    row, _ = next(iter(rows_of(prepared.data.items, 256, packed=False)))

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        objective.loss(row).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    before = gradients()
    score_items(model, objective, prepared.data.held_out, 256, packed=False)
    after = gradients()
    assert before.keys() == after.keys()
    assert any(gradient.abs().max() > 0 for gradient in before.values())
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name
