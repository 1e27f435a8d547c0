"""Reading adapters, and refusing what is none, is not plain LoRA, or belongs to another model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import AdapterMismatch, MalformedFile, ModelError, ModelNotFound, UnsupportedModel
from madang.formats.adapters import read_adapter
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from tests.formats.adapters.files import TinyAdapter, random_adapter, write_gguf, write_peft
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint

MODEL = TinyModel("adapted", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.fixture(scope="module")
def base(checkpoint: Checkpoint) -> ModelDescription:
    return describe_gguf(read_gguf(checkpoint.path))


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"config": {"use_rslora": True}},
    "patterns": {"config": {"rank_pattern": {"v_proj": 5, "0.mlp.up_proj": 2}, "alpha_pattern": {"q_proj": 9}}},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
def test_a_peft_folder(checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = random_adapter(checkpoint.weights, 1, **options)
    read = read_adapter(write_peft(adapter, tmp_path / "mine"), base)
    assert read.name == "mine"
    assert len(read.matrices) == 7 * MODEL.n_layers
    assert read.rank == max(len(a) for a, _ in adapter.pairs.values())
    for canonical, hugging_face in {"0.value": "self_attn.v_proj", "1.ffn_down": "mlp.down_proj"}.items():
        name = f"model.layers.{canonical[0]}.{hugging_face}.weight"
        a, b = read.matrices[canonical]
        np.testing.assert_allclose(
            b @ a, adapter.scale(name) * adapter.pairs[name][1] @ adapter.pairs[name][0], rtol=1e-5
        )


def test_both_files_say_the_same(checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path) -> None:
    adapter = random_adapter(checkpoint.weights, 2)
    peft = read_adapter(write_peft(adapter, tmp_path / "peft"), base)
    gguf = read_adapter(write_gguf(adapter, tmp_path / "gguf.gguf", MODEL), base)
    assert peft.matrices.keys() == gguf.matrices.keys()
    for name, (a, b) in peft.matrices.items():
        assert np.array_equal(a, gguf.matrices[name].a)
        np.testing.assert_allclose(b, gguf.matrices[name].b, rtol=1e-6)


def test_rows_follow_the_bases_own_order(checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path) -> None:
    """A folder's queries and keys lie in halves of a head: PEFT adapters stay as they are, GGUF ones turn back."""
    rope = base.spec.ropes[0]
    assert rope is not None
    halves = replace(base, spec=replace(base.spec, ropes=(replace(rope, layout="half"),) * MODEL.n_layers))
    adapter = random_adapter(checkpoint.weights, 3, ("q_proj", "k_proj"))
    plain = read_adapter(write_peft(adapter, tmp_path / "peft"), halves)
    turned = read_adapter(write_gguf(adapter, tmp_path / "gguf.gguf", MODEL), halves)
    b = adapter.pairs["model.layers.0.self_attn.q_proj.weight"][1] * np.float32(adapter.alpha / adapter.rank)
    assert np.array_equal(plain.matrices["0.query"].b, b)
    for name, (_, rows) in plain.matrices.items():
        np.testing.assert_allclose(rows, turned.matrices[name].b, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"rank_pattern": {"layers.[01].*": 3}}, "pattern"),
        ({"r": 4}, "says 4"),
        ({"r": None}, "says None"),
        ({"lora_alpha": "much"}, "no number"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path, config: dict[str, Any], error: str
) -> None:
    adapter = random_adapter(checkpoint.weights, 1, config=config)
    adapter = replace(adapter, config=config)
    with pytest.raises((UnsupportedModel, MalformedFile), match=error):
        read_adapter(write_peft(adapter, tmp_path / "mine"), base)


def test_tensors_that_are_no_factors_are_refused(
    checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path
) -> None:
    extra = {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((3, 9), np.float32)}
    with pytest.raises(UnsupportedModel, match="lora_embedding_A"):
        read_adapter(write_peft(random_adapter(checkpoint.weights, 1), tmp_path / "one", **extra), base)
    half = {"base_model.model.model.layers.0.self_attn.x.lora_A.weight": np.zeros((3, 9), np.float32)}
    with pytest.raises(MalformedFile, match="only one factor"):
        read_adapter(write_peft(TinyAdapter({}), tmp_path / "two", **half), base)
    other = {
        f"base_model.model.model.layers.0.mlp.experts.lora_{ab}.weight": np.zeros((3, 3), np.float32) for ab in "AB"
    }
    with pytest.raises(UnsupportedModel, match=r"mlp\.experts"):
        read_adapter(write_peft(TinyAdapter({}), tmp_path / "three", **other), base)


@pytest.mark.parametrize(
    "other",
    [
        TinyModel("wider", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=64, n_ff=64),
        TinyModel("more keys", n_heads=4, n_kv_heads=4, head_dim=16, n_embd=48, n_ff=64),
        TinyModel("deeper", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64, n_layers=3),
    ],
    ids=str,
)
def test_an_adapter_of_another_model_names_where_it_differs(
    base: ModelDescription, tmp_path: Path, other: TinyModel
) -> None:
    weights = write_checkpoint(other, tmp_path / "other.gguf").weights
    adapter = random_adapter(weights, 1)
    for path in (write_peft(adapter, tmp_path / "theirs"), write_gguf(adapter, tmp_path / "theirs.gguf", other)):
        with pytest.raises(AdapterMismatch, match="theirs does not belong") as caught:
            read_adapter(path, base)
        assert caught.value.tensor


def test_gguf_files_that_are_something_else(checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path) -> None:
    adapter = random_adapter(checkpoint.weights, 1)
    with pytest.raises(MalformedFile, match="no adapter"):
        read_adapter(checkpoint.path, base)
    with pytest.raises(UnsupportedModel, match="control_vector"):
        read_adapter(write_gguf(adapter, tmp_path / "a.gguf", MODEL, adapter_type="control_vector"), base)
    with pytest.raises(ModelNotFound):
        read_adapter(tmp_path / "nothing", base)


def test_damaged_folders(checkpoint: Checkpoint, base: ModelDescription, tmp_path: Path) -> None:
    adapter = random_adapter(checkpoint.weights, 1)
    for number, damage in enumerate(("", "[]", "{", json.dumps({"peft_type": ["LORA"]}))):
        folder = write_peft(adapter, tmp_path / str(number))
        (folder / "adapter_config.json").write_text(damage, encoding="utf-8")
        with pytest.raises(ModelError):
            read_adapter(folder, base)
    folder = write_peft(adapter, tmp_path / "cut")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(MalformedFile):
        read_adapter(folder, base)
    bad = {name: (a * np.float32(np.nan), b) for name, (a, b) in adapter.pairs.items()}
    with pytest.raises(MalformedFile, match="no finite numbers"):
        read_adapter(write_peft(replace(adapter, pairs=bad), tmp_path / "nan"), base)
    with pytest.raises(MalformedFile, match="changes nothing"):
        read_adapter(write_peft(TinyAdapter({}), tmp_path / "empty"), base)
