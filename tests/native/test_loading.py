"""What the native engine does not load, in a sentence each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang import _core
from madang.core import Request, SamplingParams, collect
from madang.core.errors import MadangError, MalformedFile, ModelNotFound, UnknownOption, UnsupportedModel
from madang.core.settings import load_settings
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.native import load
from madang.native.loader import load_decoder
from madang.runtime import open_model
from tests.native.conftest import as_files, as_plan
from tests.native.tiny import MODEL
from tests.parity.checkpoints import TinyModel, Weights, add_byte_tokens, random_weights, write_checkpoint, write_folder

gguf = pytest.importorskip("gguf")

UP = "model.layers.1.mlp.up_proj.weight"
Change = Callable[[Weights], object]


def weights(change: Change | None = None, model: TinyModel = MODEL) -> Weights:
    result = random_weights(model, np.random.default_rng(0))
    if change is not None:
        change(result)
    return result


def written(folder: Path, change: Change | None = None, **options: Any) -> Path:
    return write_checkpoint(MODEL, folder / "tiny.gguf", weights=weights(change), **options).path


def with_tensor(writer: Any, *, name: str, data: Any, tensor_type: TensorType = TensorType.F32) -> None:
    add_byte_tokens(writer, MODEL.vocab_size)
    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType(tensor_type))


# ---- what there is no code for


# The reference package has Q8_1 in another size than ggml; no file holds it.
NOT_RUNNABLE = sorted({*TensorType} - {*dict(_core.tensor_types()), TensorType.Q8_1})


@pytest.mark.parametrize("tensor_type", NOT_RUNNABLE, ids=lambda tensor_type: tensor_type.name)
def test_a_tensor_type_without_a_kernel_is_named(tmp_path: Path, tensor_type: TensorType) -> None:
    model = TinyModel("blocks", n_embd=256, n_heads=8, n_ff=256)
    data = np.zeros((256, 256 // tensor_type.block_elements * tensor_type.block_bytes), np.uint8)
    name = "blk.1.ffn_up.weight"
    edit = partial(with_tensor, name=name, data=data, tensor_type=tensor_type)
    without = weights(lambda all_weights: all_weights.pop(UP), model)
    path = write_checkpoint(model, tmp_path / "typed.gguf", weights=without, edit=edit).path
    with pytest.raises(UnsupportedModel) as caught:
        load(as_files(path), as_plan())
    assert caught.value.what == f"the tensor type {tensor_type.name} ('{name}' of typed.gguf)"
    assert caught.value.hint == "It would run with llamacpp."


def test_a_hugging_face_folder_answers_like_its_gguf_file(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(MODEL, tmp_path / "tiny.gguf")
    write_folder(checkpoint, tmp_path / "tiny")
    files = (as_files(checkpoint.path), as_files(tmp_path / "tiny", format="huggingface"))
    request = Request(prompt="Once", max_tokens=24)
    answers = [collect(load(each, as_plan()).generate(request)).text for each in files]
    assert answers[0] == answers[1] != ""
    with pytest.raises(ModelNotFound):
        load(as_files(tmp_path, format="huggingface"), as_plan())


def test_an_instruction_set_that_this_machine_lacks(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownOption, match="no instruction set on this machine named 'mmx'") as caught:
        load(as_files(tiny_gguf), as_plan(isa="mmx"))
    assert caught.value.hint is not None
    assert "portable" in caught.value.hint
    settings = load_settings({}, {"MADANG_ISA": "avx1024", "MADANG_HOME": str(tmp_path)})
    with pytest.raises(UnknownOption, match="'avx1024'"):
        open_model(f"file:{tiny_gguf}", settings)


@pytest.mark.parametrize("isa", ["", "AUTO"])
def test_a_name_that_is_no_instruction_set(tiny_gguf: Path, isa: str) -> None:
    with pytest.raises(UnknownOption):
        load(as_files(tiny_gguf), as_plan(isa=isa))


# ---- tensors that are not the model's


def reshaped(name: str, *shape: int) -> Change:
    def change(all_weights: Weights) -> None:
        all_weights[name] = np.zeros(shape, np.float32)

    return change


WRONG: Mapping[str, tuple[Change, str]] = {
    "missing matrix": (lambda w: w.pop(UP), r"'1\.ffn_up' is missing"),
    "missing norm": (lambda w: w.pop("model.norm.weight"), "'output_norm' is missing"),
    "missing layer": (
        lambda w: [w.pop(name) for name in [*w] if name.startswith("model.layers.1.")],
        r"'1\.attention_norm' is missing",
    ),
    "transposed": (reshaped(UP, MODEL.n_embd, MODEL.n_ff), r"'1\.ffn_up' is 48 x 64, expected 64 x 48"),
    "too long a row": (reshaped(UP, MODEL.n_ff, MODEL.n_embd + 1), "64 x 49, expected 64 x 48"),
    "too few rows": (reshaped("model.layers.0.self_attn.v_proj.weight", 31, 48), "31 x 48, expected 32 x 48"),
    "output of another vocabulary": (reshaped("lm_head.weight", 258, 48), "258 x 48, expected 259 x 48"),
    "matrix of one dimension": (reshaped(UP, MODEL.n_ff * MODEL.n_embd), "1 x 3072, expected 64 x 48"),
    "matrix of three dimensions": (reshaped(UP, 2, 32, 48), r"'blk\.1\.ffn_up\.weight' has 3 dimensions"),
    "norm of two dimensions": (reshaped("model.norm.weight", 2, 24), "2 x 24, expected 1 x 48"),
    "short norm": (reshaped("model.norm.weight", 47), "1 x 47, expected 1 x 48"),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_are_not_the_models(tmp_path: Path, case: str) -> None:
    change, problem = WRONG[case]
    path = written(tmp_path, change)
    with pytest.raises(MalformedFile, match=problem) as caught:
        load(as_files(path), as_plan())
    assert caught.value.path == str(path)


def test_a_head_longer_than_the_engine_can_take(tmp_path: Path) -> None:
    path = write_checkpoint(TinyModel("long", n_heads=1, n_kv_heads=1, head_dim=2048), tmp_path / "long.gguf").path
    with pytest.raises(MalformedFile, match="contradict"):
        load(as_files(path), as_plan())


def test_more_tokens_in_the_vocabulary_than_in_the_model(tmp_path: Path) -> None:
    path = written(tmp_path, edit=partial(add_byte_tokens, vocab_size=300))
    with pytest.raises(MalformedFile, match="its tokenizer has 300 tokens, but its weights 259"):
        load(as_files(path), as_plan())


def test_a_file_that_is_not_there_or_cut_off(tmp_path: Path, tiny_gguf: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:-1])
    with pytest.raises(MalformedFile, match=r"cut\.gguf"):
        load(as_files(cut), as_plan())
    files = as_files(cut)
    cut.unlink()
    with pytest.raises(ModelNotFound):
        load(files, as_plan())


# ---- numbers that are none


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.norm.weight", UP, "model.embed_tokens.weight"])
def test_weights_that_are_not_numbers_name_their_tensor(tmp_path: Path, name: str, value: float) -> None:
    path = written(tmp_path, lambda w: w[name].reshape(-1).__setitem__(-1, value))
    canonical = {"model.norm.weight": "output_norm", UP: r"1\.ffn_up", "model.embed_tokens.weight": "token_embedding"}
    with pytest.raises(MalformedFile, match=f"'{canonical[name]}' holds NaN or infinity") as caught:
        load(as_files(path), as_plan())
    assert caught.value.path == str(path)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_overflow_end_in_a_sentence(tmp_path: Path, temperature: float) -> None:
    path = written(tmp_path, lambda w: w["model.norm.weight"].fill(3e38))
    engine = load(as_files(path), as_plan())
    sampling = SamplingParams(temperature=temperature, top_k=0, top_p=1, seed=0)
    with pytest.raises(MadangError):
        collect(engine.generate(Request(prompt="a", max_tokens=4, sampling=sampling)))


def test_a_file_that_shrinks_while_it_is_loaded(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "shrinking.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    description = describe_gguf(read_gguf(path))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(MalformedFile, match="became shorter while it was read"):
        load_decoder("shrinking", description, as_plan())
