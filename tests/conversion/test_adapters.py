"""LoRA adapters, PEFT and GGUF, both ways: what they add to a model is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from madang.conversion import to_gguf
from madang.conversion.adapters import adapter_to_folder, adapter_to_gguf
from madang.core.errors import AdapterMismatch, InvalidRequest
from madang.formats.adapters import AdapterDescription, read_adapter
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from tests.conversion.test_families import built_with_tokens
from tests.formats.adapters.files import random_adapter, write_gguf, write_peft
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint, write_folder
from tests.parity.families import FAMILIES

MODEL = TinyModel("adapted", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    checkpoint = write_checkpoint(MODEL, tmp_path_factory.mktemp("base") / "base.gguf")
    write_folder(checkpoint, checkpoint.path.with_name("folder"))
    return checkpoint


def assert_same(one: AdapterDescription, other: AdapterDescription) -> None:
    assert one.matrices.keys() == other.matrices.keys()
    for name, (a, b) in one.matrices.items():
        np.testing.assert_allclose(other.matrices[name].b @ other.matrices[name].a, b @ a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base_is_folder", [False, True])
def test_there_and_back(checkpoint: Checkpoint, tmp_path: Path, base_is_folder: bool) -> None:
    base = checkpoint.path.with_name("folder") if base_is_folder else checkpoint.path
    model_format = "huggingface" if base_is_folder else "gguf"
    description = describe_folder(base) if base_is_folder else describe_gguf(read_gguf(base))
    adapter = random_adapter(
        checkpoint.weights, 1, config={"rank_pattern": {"v_proj": 5}, "alpha_pattern": {"q_proj": 9}}
    )
    peft = write_peft(adapter, tmp_path / "peft")
    size_bytes = adapter_to_gguf(peft, tmp_path / "there.gguf", base, model_format)  # type: ignore[arg-type]
    assert size_bytes == (tmp_path / "there.gguf").stat().st_size
    adapter_to_folder(tmp_path / "there.gguf", tmp_path / "back", base, model_format)  # type: ignore[arg-type]
    first = read_adapter(peft, description)
    assert_same(first, read_adapter(tmp_path / "there.gguf", description))
    assert_same(first, read_adapter(tmp_path / "back", description))
    with pytest.raises(InvalidRequest, match="exists already"):
        adapter_to_folder(tmp_path / "there.gguf", tmp_path / "back", base, model_format)  # type: ignore[arg-type]


def test_it_is_what_the_converter_writes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Names and rows, but for where the scale is kept."""
    adapter = random_adapter(checkpoint.weights, 2)
    theirs = read_gguf(write_gguf(adapter, tmp_path / "theirs.gguf", MODEL))
    adapter_to_gguf(write_peft(adapter, tmp_path / "peft"), tmp_path / "ours.gguf", checkpoint.path, "gguf")
    ours = read_gguf(tmp_path / "ours.gguf")
    assert {name: tensor.shape for name, tensor in ours.tensors.items()} == {
        name: tensor.shape for name, tensor in theirs.tensors.items()
    }
    assert ours.architecture == theirs.architecture
    description = describe_gguf(read_gguf(checkpoint.path))
    assert_same(read_adapter(tmp_path / "theirs.gguf", description), read_adapter(tmp_path / "ours.gguf", description))


def test_fused_matrices(tmp_path: Path) -> None:
    """Phi-3's: an adapter that was trained on the parts becomes one of the whole, of as many ranks."""
    built = built_with_tokens(next(family for family in FAMILIES if family.name == "phi3"), tmp_path)
    base = tmp_path / "base.gguf"
    to_gguf(built.folder, base, TensorType.F32, name="tiny")
    description = describe_folder(built.folder)
    folder = tmp_path / "peft"
    folder.mkdir()
    rng = np.random.default_rng(1)
    factors = {
        "model.layers.0.self_attn.qkv_proj": (64, 128),
        "model.layers.1.mlp.gate_up_proj": (64, 192),
        "model.layers.2.mlp.down_proj": (96, 64),
    }
    tensors = {}
    for name, (n_in, n_out) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = rng.normal(size=(2, n_in)).astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = rng.normal(size=(n_out, 2)).astype(np.float32)
    pytest.importorskip("safetensors.numpy").save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    adapter_to_gguf(folder, tmp_path / "there.gguf", built.folder, "huggingface")
    assert "blk.0.attn_qkv.weight.lora_a" in read_gguf(tmp_path / "there.gguf").tensors
    adapter_to_folder(tmp_path / "there.gguf", tmp_path / "back", base, "gguf")
    first = read_adapter(folder, description)
    assert_same(first, read_adapter(tmp_path / "there.gguf", describe_gguf(read_gguf(base))))
    assert_same(first, read_adapter(tmp_path / "back", description))


def test_peft_reads_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = checkpoint.path.with_name("folder")
    first = write_peft(random_adapter(checkpoint.weights, 3), tmp_path / "peft")
    adapter_to_gguf(first, tmp_path / "there.gguf", folder, "huggingface")
    adapter_to_folder(tmp_path / "there.gguf", tmp_path / "back", folder, "huggingface")
    rows = []
    for path in (first, tmp_path / "back"):
        base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, path).eval()
        with torch.inference_mode():
            rows.append(model(torch.arange(3, 40)[None]).logits[0].numpy())
    assert rows[0].std() > 0.1
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)


def test_an_adapter_of_another_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = write_checkpoint(TinyModel("other", n_embd=32, n_ff=32), tmp_path / "other.gguf")
    peft = write_peft(random_adapter(other.weights, 4), tmp_path / "peft")
    with pytest.raises(AdapterMismatch):
        adapter_to_gguf(peft, tmp_path / "there.gguf", checkpoint.path, "gguf")
    assert not (tmp_path / "there.gguf").exists()
