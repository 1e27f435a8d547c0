"""Hugging Face folders become canonical models, or are refused with what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import MadangError, MalformedFile, UnsupportedModel
from madang.formats.families import describe_folder, describe_model, supported_model_types
from madang.formats.rope import Yarn, base_frequencies, scale_linear
from madang.formats.spec import EmbeddingSpec, ModelDescription, RopeSpec
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder

MODEL = TinyModel("tiny", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=40)


def described(folder: Path, model: TinyModel = MODEL, **settings: Any) -> ModelDescription:
    write_folder(write_checkpoint(model, folder / "tiny.gguf"), folder / "tiny", **settings)
    return describe_folder(folder / "tiny")


def rope_of(description: ModelDescription) -> RopeSpec:
    (rope,) = set(description.spec.ropes)
    assert rope is not None
    return rope


def test_a_folder_says_what_its_gguf_file_says(tmp_path: Path) -> None:
    folder = described(tmp_path)
    file = describe_model(tmp_path / "tiny.gguf", "gguf")
    assert folder.tensors.keys() == file.tensors.keys()
    assert {name: tensor.shape for name, tensor in folder.tensors.items()} == {
        name: tensor.shape for name, tensor in file.tensors.items()
    }
    assert rope_of(folder).layout == "half"
    assert rope_of(file).layout == "interleaved"
    assert rope_of(folder).inverse_frequencies == rope_of(file).inverse_frequencies
    assert (folder.spec.n_kv_heads, folder.spec.head_dim, folder.spec.context_tokens) == (2, 16, 1024)
    assert folder.spec.norm_epsilon == pytest.approx(file.spec.norm_epsilon, rel=1e-6)
    assert describe_model(tmp_path / "tiny", "huggingface") == folder


def test_rope_settings_old_and_new(tmp_path: Path) -> None:
    plain = base_frequencies(50_000.0, 16)
    yarn = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128}
    new = {"rope_theta": 50_000.0, "rope_type": "linear", "factor": 2.0}
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"rope_theta": 50_000.0}, plain),
        ({"rope_theta": 50_000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}, scale_linear(plain, 4.0)),
        ({"rope_theta": 50_000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, plain),
        ({"rope_theta": 50_000.0, "rope_scaling": yarn}, Yarn(8.0, 50_000.0, 128).scale(plain)),
        ({"rope_theta": 1.5, "rope_parameters": new, "rope_scaling": None}, scale_linear(plain, 2.0)),
        ({"rope_theta": 50_000.0, "partial_rotary_factor": 0.5}, base_frequencies(50_000.0, 8)),
    ]
    for number, (settings, expected) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        if "rope_parameters" in settings:
            settings = {**settings, "rope_theta": 50_000.0}
        rope = rope_of(described(tmp_path / str(number), **settings))
        assert np.allclose(rope.inverse_frequencies, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("pooling", "normalize", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True, EmbeddingSpec("mean")),
        ({"pooling_mode_cls_token": True}, False, EmbeddingSpec("cls", normalized=False)),
        ({"pooling_mode": "lasttoken"}, True, EmbeddingSpec("last")),
    ],
)
def test_sentence_transformers(
    tmp_path: Path, pooling: dict[str, Any], normalize: bool, expected: EmbeddingSpec
) -> None:
    assert described(tmp_path).embedding is None
    with_modules(tmp_path / "tiny", pooling, ("Transformer", "Pooling", "Normalize")[: 2 + normalize])
    assert describe_folder(tmp_path / "tiny").embedding == expected


def with_modules(folder: Path, pooling: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    modules = [
        {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 48, **pooling}))


@pytest.mark.parametrize(
    ("pooling", "kinds", "what"),
    [
        ({"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "the pooling 'pooling_mode_max_tokens'"),
        ({"pooling_mode_max_tokens": False}, ("Transformer", "Pooling"), "the pooling 'none'"),
        ({"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"), "the module 'Dense'"),
    ],
)
def test_other_vectors_are_refused(tmp_path: Path, pooling: dict[str, Any], kinds: tuple[str, ...], what: str) -> None:
    described(tmp_path)
    with_modules(tmp_path / "tiny", pooling, kinds)
    with pytest.raises(UnsupportedModel, match=f"{what} of tiny"):
        describe_folder(tmp_path / "tiny")


UNSUPPORTED: Mapping[str, dict[str, Any]] = {
    "the architecture 'quux' of tiny": {"model_type": "quux"},
    "the architecture 'rwkv' (recurrent layers) of tiny": {"model_type": "rwkv"},
    "the architecture 'gpt_oss' (attention sinks) of tiny": {"model_type": "gpt_oss"},
    "the gptq quantization of tiny": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "the activation 'xielu' of tiny": {"hidden_act": "xielu"},
    "the rope scaling 'mrope' of tiny": {"rope_scaling": {"type": "mrope"}},
    "the tensor 'model.layers.1.input_layernorm.weight' of tiny": {"num_hidden_layers": 1},
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_things_are_named_with_what_runs_them(tmp_path: Path, what: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        described(tmp_path, **UNSUPPORTED[what])
    assert caught.value.message == f"The native engine does not run {what}."
    assert "transformers" in (caught.value.hint or "")


MALFORMED: Mapping[str, tuple[dict[str, Any], str]] = {
    "no type": ({"model_type": None}, "'model_type' is missing"),
    "no width": ({"hidden_size": None}, "'hidden_size' is missing"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads' is 0"),
    "heads that cannot share": ({"num_key_value_heads": 3}, "4 heads cannot share 3"),
    "heads too long": ({"head_dim": 2**31 - 1}, "4 heads of 2147483647"),
    "layers without end": ({"num_hidden_layers": 2**31 - 1}, "expected 1 to 10000"),
    "more layers than tensors": ({"num_hidden_layers": 3}, r"'2\.attention_norm' is missing"),
    "text for a number": ({"intermediate_size": "40"}, "is a text"),
    "no epsilon": ({"rms_norm_eps": None}, "'rms_norm_eps' is missing"),
    "frequencies that do not fall": ({"rope_theta": 1.0}, "rope_theta' is 1.0"),
    "half a pair": ({"partial_rotary_factor": 0.06}, "cannot be rotated in pairs"),
    "shrinking factor": ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor' is 0.5"),
    "turns upside down": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}},
        "go from 4.0 turns to 1.0",
    ),
    "too few factors": (
        {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
        "'short_factor' of its rope settings is not 8 numbers",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_contradictions_are_refused(tmp_path: Path, case: str) -> None:
    settings, problem = MALFORMED[case]
    with pytest.raises(MalformedFile, match=problem) as caught:
        described(tmp_path, **settings)
    assert caught.value.path == str(tmp_path / "tiny" / "config.json")


def test_an_output_that_is_neither_there_nor_tied(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match="'output' is missing, and it is not tied"):
        described(tmp_path, TinyModel("tied", tied=True), tie_word_embeddings=False)


# Whose names of tensors are Llama's, so that they make sense of its files.
ALIKE = ("llama", "mistral", "gemma", "phi3", "smollm3")


@pytest.mark.parametrize("model_type", supported_model_types())
def test_every_family_refuses_a_llama_in_its_own_words(tmp_path: Path, model_type: str) -> None:
    if model_type in ALIKE:
        assert described(tmp_path, model_type=model_type).spec.architecture == model_type
        return
    with pytest.raises(MadangError) as caught:
        described(tmp_path, model_type=model_type)
    assert isinstance(caught.value, UnsupportedModel | MalformedFile)
