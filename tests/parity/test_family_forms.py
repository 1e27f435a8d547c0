"""The same models as other programs, or earlier ones, have written them; and what must be refused in them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from tests.parity.families import FAMILIES, build

numpy_files = pytest.importorskip("safetensors.numpy")

Settings = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of families by name, each made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            family = replace(BY_NAME[name], arch=None, shards=False)
            made[name] = build(family, tmp_path_factory.mktemp("forms")).folder
        return made[name]

    return get


def rewritten(
    folder: Path, target: Path, settings: Callable[[Settings], Settings], rename: Callable[[str], str] = str
) -> Path:
    """A copy with other settings and names of tensors."""
    target.mkdir()
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings(config)))
    arrays = numpy_files.load_file(folder / "model.safetensors")
    numpy_files.save_file({rename(name): values for name, values in arrays.items()}, target / "model.safetensors")
    return target


def moved(config: Settings, names: Mapping[str, str]) -> Settings:
    """The same values under other keys."""
    return {names.get(key, key): value for key, value in config.items()}


def old_rope(config: Settings) -> Settings:
    """As before transformers 5."""
    rope = config.pop("rope_parameters")
    theta, part = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    scaling = {"type": rope.pop("rope_type"), **rope}
    return {**config, "rope_theta": theta, "partial_rotary_factor": part, "rope_scaling": scaling}


def su_rope(config: Settings) -> Settings:
    """As the first Phi-3 of 128k."""
    config = old_rope(config)
    config["rope_scaling"]["type"] = "su"
    del config["rope_scaling"]["original_max_position_embeddings"]
    return config


def yarn_rope(config: Settings) -> Settings:
    """As it was called for a day."""
    config = su_rope(config)
    config["rope_scaling"]["type"] = "yarn"
    return config


def old_gemma3(config: Settings) -> Settings:
    """As Google published it, where most values are what the class assumes."""
    rope = config.pop("rope_parameters")
    for key in ("layer_types", "_sliding_window_pattern", "rms_norm_eps"):
        config.pop(key)
    theta, local = rope["full_attention"].pop("rope_theta"), rope["sliding_attention"]["rope_theta"]
    return {**config, "rope_theta": theta, "rope_local_base_freq": local, "rope_scaling": rope["full_attention"]}


def with_images(config: Settings) -> Settings:
    """The text part of a model that also sees."""
    return {"model_type": "gemma3", "text_config": config, "vision_config": {"hidden_size": 8}}


def first_falcon(config: Settings) -> Settings:
    """As Falcon was before transformers knew it."""
    names = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
    config = {key: value for key, value in config.items() if key not in {"new_decoder_architecture", "ffn_hidden_size"}}
    return moved(config, names) | {"model_type": "RefinedWebModel"}


def first_nomic(config: Settings) -> Settings:
    """As Nomic published it."""
    names = {"num_hidden_layers": "n_layer", "hidden_size": "n_embd", "num_attention_heads": "n_head"}
    names |= {"intermediate_size": "n_inner", "max_position_embeddings": "n_positions"}
    names |= {"layer_norm_eps": "layer_norm_epsilon", "hidden_act": "unused"}
    config["rotary_emb_base"] = config.pop("rope_parameters")["rope_theta"]
    return moved(config, names) | {"activation_function": "swiglu", "rotary_emb_fraction": 1.0, "causal": False}


def letters(config: Settings) -> Settings:
    """EXAONE 4's pattern in letters."""
    config.pop("layer_types")
    return {**config, "sliding_window_pattern": "LLLG"}


def interval(config: Settings) -> Settings:
    """SmolLM3 without its list."""
    config.pop("no_rope_layers")
    config.pop("layer_types")
    return config


FORMS: Mapping[str, tuple[str, Callable[[Settings], Settings], Callable[[str], str]]] = {
    "llama with old settings": ("llama", old_rope, str),
    "llama without model.": ("llama", dict, lambda name: name.removeprefix("model.")),
    "phi3 with su": ("phi3-long", su_rope, str),
    "phi3 with yarn": ("phi3-long", yarn_rope, str),
    "phi with old settings": ("phi", old_rope, str),
    "gemma3 with old settings": ("gemma3", old_gemma3, str),
    "gemma3 with images": ("gemma3", with_images, lambda name: f"language_model.{name}"),
    "gemma3 with images, newer": (
        "gemma3",
        with_images,
        lambda name: name.replace("model.", "model.language_model.", 1),
    ),
    "falcon by its first name": ("falcon-7b", first_falcon, str),
    "nomic by its first names": ("nomic-bert", first_nomic, lambda name: f"bert.{name}"),
    "exaone4 in letters": ("exaone4-hybrid", letters, str),
    "smollm3 by its interval": ("smollm3", interval, str),
    "bert of TensorFlow": (
        "bert",
        dict,
        lambda name: re.sub(
            r"LayerNorm\.(weight|bias)",
            lambda m: "LayerNorm." + {"weight": "gamma", "bias": "beta"}[m[1]],
            f"bert.{name}",
        ),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_say_the_same(form: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    name, settings, rename = FORMS[form]
    expected = describe_folder(folder_of(name))
    actual = describe_folder(rewritten(folder_of(name), tmp_path / "other", settings, rename))
    assert replace(actual.spec, architecture=expected.spec.architecture) == expected.spec
    assert shapes(actual) == shapes(expected)


def shapes(description: ModelDescription) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in description.tensors.items()}


def test_leftovers_are_skipped_whatever_their_dtype(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    for name, extra in (
        ("gpt2", {"transformer.h.0.attn.bias": np.ones((1, 1, 4, 4), np.bool_), "transformer.h.2.attn.masked_bias": 0}),
        ("llama", {"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}),
        ("bert", {"embeddings.position_ids": np.arange(4)[None], "cls.predictions.bias": np.ones(3, np.float32)}),
        ("gemma3", {"vision_tower.a.weight": np.ones(3, np.uint8), "multi_modal_projector.b": np.ones(3, np.uint8)}),
    ):
        folder = tmp_path / name
        shutil.copytree(folder_of(name), folder)
        arrays: Arrays = numpy_files.load_file(folder / "model.safetensors")
        arrays |= {key: np.array(value) for key, value in extra.items()}
        numpy_files.save_file(arrays, folder / "model.safetensors")
        assert shapes(describe_folder(folder)) == shapes(describe_folder(folder_of(name)))


REFUSED: Mapping[str, tuple[str, Settings, str]] = {
    "ALiBi": ("falcon-7b", {"alibi": True}, "the setting 'alibi'"),
    "Falcon in sequence": ("falcon-7b", {"parallel_attn": False}, "the setting 'parallel_attn'"),
    "norms of queries": ("phi", {"qk_layernorm": True}, "the setting 'qk_layernorm'"),
    "both directions": ("gemma2", {"use_bidirectional_attention": True}, "'use_bidirectional_attention'"),
    "a BERT that writes": ("bert", {"is_decoder": True}, "the setting 'is_decoder'"),
    "relative positions": ("bert", {"position_embedding_type": "relative_key"}, "'position_embedding_type'"),
    "scores by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx'"),
    "unscaled scores": ("gpt2", {"scale_attn_weights": False}, "the setting 'scale_attn_weights'"),
    "some dense layers": ("qwen3-moe", {"mlp_only_layers": [0]}, "'mlp_only_layers'"),
    "norms first": ("nomic-bert", {"prenorm": True}, "the setting 'prenorm'"),
    "experts of Nomic": ("nomic-bert", {"moe_every_n_layers": 2}, "the setting 'moe_every_n_layers'"),
    "other layers": ("exaone4", {"layer_types": ["chunked_attention"] * 3}, "the layer type 'chunked_attention'"),
    "another activation": ("starcoder2", {"hidden_act": "relu2"}, "the activation 'relu2'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_family_does_not_compute(case: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    name, changes, what = REFUSED[case]
    folder = rewritten(folder_of(name), tmp_path / "other", lambda config: {**config, **changes})
    with pytest.raises(UnsupportedModel, match=what) as caught:
        describe_folder(folder)
    assert caught.value.runs_with == "transformers"


MALFORMED: Mapping[str, tuple[str, Settings, str]] = {
    "more heads in the file": ("phi3", {"num_attention_heads": 8, "head_dim": 16}, "expected 192 rows"),
    "a wider file": ("gpt2", {"n_embd": 60}, "is 192, expected 180 rows"),
    "more experts than there are": ("mixtral", {"num_local_experts": 5}, r"'0\.router|expert\.4\.ffn_gate' is missing"),
    "more used than there are": ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok' is 5"),
    "side by side with two norms": ("stablelm", {"use_parallel_residual": True}, "contradict each other"),
    "norms of heads that are not": ("stablelm-12b", {"num_attention_heads": 8, "head_dim": 16}, "4 of 8 norms"),
    "too few types of layers": ("gemma2", {"layer_types": ["full_attention"]}, "1 layer types for 3 layers"),
    "unknown letters": ("exaone4-hybrid", {"layer_types": [], "sliding_window_pattern": "LX"}, "not made of L and G"),
    "too few flags": ("smollm3", {"no_rope_layers": [1, 0]}, "2 entries for 5 layers"),
    "padding past the positions": ("xlm-roberta", {"pad_token_id": 600}, "has 512 rows"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_contradictions(case: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    name, changes, problem = MALFORMED[case]
    folder = rewritten(folder_of(name), tmp_path / "other", lambda config: {**config, **changes})
    with pytest.raises(MalformedFile, match=problem):
        describe_folder(folder)


def test_the_scale_that_no_gguf_key_says(tmp_path: Path) -> None:
    for name, n_layers in (("gemma2", 46), ("gemma3", 62)):
        options = {**BY_NAME[name].options, "num_hidden_layers": n_layers, "query_pre_attn_scalar": 16}
        built = build(replace(BY_NAME[name], options=options), tmp_path)
        assert built.gguf is not None
        scales = (describe_folder(built.folder).spec, describe_gguf(read_gguf(built.gguf)).spec)
        assert [spec.attention_scale for spec in scales] == [0.25, 0.25]
