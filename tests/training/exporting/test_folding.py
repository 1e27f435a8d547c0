"""Folded adapters: what PEFT computes without folding, for each form of LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import AdapterMismatch, CannotConvert, InvalidRequest
from madang.formats.families import describe_folder
from madang.formats.tensors import TensorType
from madang.training.exporting import Trained, fold_adapter
from madang.training.exporting.sides import TorchSide
from tests.parity.checkpoints import TinyModel
from tests.training.exporting.tiny import (
    UNTIED,
    changed,
    edit_json,
    torch,
    transformers,
    write_adapter,
    write_base,
)

TOKENS = list(range(3, 60))


def logits(folder: Path, adapter: Path | None = None) -> Any:
    return next(TorchSide(folder, adapter).logits(TOKENS))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("tied") / "base")


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("untied") / "base", UNTIED)


FORMS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    "few modules": {"target_modules": ["q_proj", "v_proj"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_folding_is_what_peft_computes(form: str, tied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tied, tmp_path / "adapter", **FORMS[form])
    fold_adapter(Trained("tiny", tied, adapter), tmp_path / "merged")
    expected = logits(tied, adapter)
    assert np.abs(expected - logits(tied)).max() > 0.1
    np.testing.assert_allclose(logits(tmp_path / "merged"), expected, atol=2e-4)
    assert "output" not in describe_folder(tmp_path / "merged").tensors


def test_modules_that_were_saved_whole(untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(
        untied, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]
    )
    fold_adapter(Trained("tiny", untied, adapter), tmp_path / "merged")
    np.testing.assert_allclose(logits(tmp_path / "merged"), logits(untied, adapter), atol=2e-4)


def test_embeddings(untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(untied, tmp_path / "adapter", target_modules=["q_proj", "embed_tokens"])
    fold_adapter(Trained("tiny", untied, adapter), tmp_path / "merged")
    np.testing.assert_allclose(logits(tmp_path / "merged"), logits(untied, adapter), atol=2e-4)


def test_a_family_with_inputs_as_rows(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=259, n_positions=128)
    base = write_base(tmp_path / "base")
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "gpt2" / name).write_bytes((base / name).read_bytes())
    adapter = write_adapter(
        tmp_path / "gpt2", tmp_path / "adapter", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
    )
    fold_adapter(Trained("tiny", tmp_path / "gpt2", adapter), tmp_path / "merged")
    np.testing.assert_allclose(logits(tmp_path / "merged"), logits(tmp_path / "gpt2", adapter), atol=2e-4)


def test_other_types(tied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tied, tmp_path / "adapter")
    trained = Trained("tiny", tied, adapter)
    fold_adapter(trained, tmp_path / "half", TensorType.BF16)
    assert {tensor.type for tensor in describe_folder(tmp_path / "half").tensors.values()} == {TensorType.BF16}
    np.testing.assert_allclose(logits(tmp_path / "half"), logits(tied, adapter), atol=0.3)
    with pytest.raises(InvalidRequest, match="Folders hold"):
        fold_adapter(trained, tmp_path / "few", TensorType.Q8_0)
    with pytest.raises(InvalidRequest, match="exists already"):
        fold_adapter(trained, tmp_path / "half")


def test_a_quantized_base_is_refused(tied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tied, tmp_path / "adapter")
    few = changed(
        tied,
        tmp_path / "few",
        lambda folder: edit_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
    )
    with pytest.raises(CannotConvert, match="bitsandbytes"):
        fold_adapter(Trained("tiny", few, adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_head_alone_of_a_tied_model_is_refused(tied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tied, tmp_path / "adapter", target_modules=["q_proj", "lm_head"])
    with pytest.raises(CannotConvert, match="tied to its embeddings"):
        fold_adapter(Trained("tiny", tied, adapter), tmp_path / "merged")


@pytest.mark.parametrize("model", [TinyModel("wider", n_ff=128, tied=True), TinyModel("deeper", n_layers=3, tied=True)])
def test_another_base(model: TinyModel, tied: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other", model)
    adapter = write_adapter(other, tmp_path / "adapter")
    with pytest.raises(AdapterMismatch):
        fold_adapter(Trained("tiny", tied, adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
