"""Architectures become canonical models, or are refused with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.families import describe_gguf, supported_architectures
from madang.formats.gguf import read_gguf
from madang.formats.rope import Yarn, base_frequencies, scale_linear
from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec
from madang.formats.tensors import TensorType
from tests.parity.checkpoints import TinyModel, add_byte_tokens, llama3_factors, write_checkpoint

gguf = pytest.importorskip("gguf")

MODEL = TinyModel("tiny", n_heads=6, n_kv_heads=2, head_dim=16, n_embd=64, n_ff=72, n_layers=2, norm_epsilon=2**-17)
LAYER_PARTS = {
    "attention_norm": (64,),
    "query": (96, 64),
    "key": (32, 64),
    "value": (32, 64),
    "attention_output": (64, 96),
    "ffn_norm": (64,),
    "ffn_gate": (72, 64),
    "ffn_up": (72, 64),
    "ffn_down": (64, 72),
}

Edit = Callable[[Any], None]


def changed(changes: Mapping[str, Any]) -> Edit:
    """Sets metadata (``llama.`` keys) by the Python type of its value; None takes a key away."""

    def edit(writer: Any) -> None:
        add_byte_tokens(writer, MODEL.vocab_size)
        for key, value in changes.items():
            name = key if key.startswith("general.") else f"llama.{key}"
            writer.kv_data[0].pop(name, None)
            adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
            if value is not None:
                adders[type(value)](name, value)

    return edit


def rope_of(description: ModelDescription) -> RopeSpec:
    (rope,) = set(description.spec.ropes)
    assert rope is not None
    return rope


def described(folder: Path, model: TinyModel = MODEL, **changes: Any) -> ModelDescription:
    edits = {key.replace("__", "."): value for key, value in changes.items()}
    write_checkpoint(model, folder / "tiny.gguf", edit=changed(edits))
    return describe_gguf(read_gguf(folder / "tiny.gguf"))


def test_a_llama_is_described(tmp_path: Path) -> None:
    description = described(tmp_path)
    spec = description.spec
    assert spec == DecoderSpec(
        architecture="llama",
        n_layers=2,
        n_embd=64,
        n_heads=6,
        n_kv_heads=2,
        head_dim=16,
        n_ff=72,
        vocab_size=259,
        context_tokens=1024,
        norm_epsilon=2**-17,
        ropes=spec.ropes,
        window_tokens=(0, 0),
    )
    (rope,) = set(spec.ropes)
    assert rope
    assert rope.layout == "interleaved"
    assert rope.inverse_frequencies == tuple(base_frequencies(10_000.0, 16).tolist())
    assert rope.magnitude == 1
    expected = {"token_embedding": (259, 64), "output_norm": (64,), "output": (259, 64)}
    expected |= {f"{layer}.{part}": shape for layer in range(2) for part, shape in LAYER_PARTS.items()}
    assert {name: tensor.shape for name, tensor in description.tensors.items()} == expected
    assert description.tensors["1.ffn_up"].name == "blk.1.ffn_up.weight"


def test_a_tied_model_has_no_output(tmp_path: Path) -> None:
    assert "output" not in described(tmp_path, TinyModel("tied", tied=True)).tensors


def test_defaults_of_keys_that_old_files_lack(tmp_path: Path) -> None:
    model = TinyModel("old", n_heads=4, n_kv_heads=4, head_dim=16, n_embd=64, rope_theta=500_000.0)
    gone = ("attention__head_count_kv", "rope__freq_base", "rope__dimension_count", "vocab_size")
    spec = described(tmp_path, model, **dict.fromkeys(gone)).spec
    assert (spec.n_kv_heads, spec.head_dim, spec.vocab_size) == (4, 16, 259)
    (rope,) = set(spec.ropes)
    assert rope
    assert rope.inverse_frequencies == tuple(base_frequencies(10_000.0, 16).tolist())


def test_a_window_holds_in_every_layer(tmp_path: Path) -> None:
    assert described(tmp_path, TinyModel("windowed", window=512, n_layers=3)).spec.window_tokens == (512,) * 3


def test_part_of_a_head_may_be_rotated(tmp_path: Path) -> None:
    rope = rope_of(described(tmp_path, rope__dimension_count=8))
    assert rope.inverse_frequencies == tuple(base_frequencies(10_000.0, 8).tolist())


# ---- rope scaling


def test_linear_scaling(tmp_path: Path) -> None:
    rope = rope_of(described(tmp_path, TinyModel("linear", scaling={"rope_type": "linear", "factor": 4.0})))
    assert np.allclose(rope.inverse_frequencies, scale_linear(base_frequencies(10_000.0, 32), 4.0))


def test_linear_scaling_as_old_files_write_it(tmp_path: Path) -> None:
    rope = rope_of(described(tmp_path, rope__scale_linear=2.0))
    assert np.allclose(rope.inverse_frequencies, scale_linear(base_frequencies(10_000.0, 16), 2.0))


def test_yarn(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256}
    rope = rope_of(described(tmp_path, TinyModel("yarn", rope_theta=50_000.0, scaling=scaling)))
    yarn = Yarn(8.0, 50_000.0, 256)
    assert np.allclose(rope.inverse_frequencies, yarn.scale(base_frequencies(50_000.0, 32)))
    assert rope.magnitude == yarn.magnitude > 1


def test_llama3_factors_are_read_from_their_tensor(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = TinyModel("llama3", head_dim=64, scaling={**scaling, "original_max_position_embeddings": 128})
    description = described(tmp_path, model)
    factors = llama3_factors(model)
    assert set(factors) > {1.0, 8.0}
    expected = base_frequencies(10_000.0, 64) / factors
    assert np.allclose(rope_of(description).inverse_frequencies, expected, rtol=1e-12)
    assert "rope_freqs.weight" not in description.tensors


@pytest.mark.parametrize(
    ("factors", "problem"),
    [
        (np.ones(7, np.float32), "is not 8 float32 values"),
        (np.ones(8, np.float16), "is not 8 float32 values"),
        (np.ones((8, 1), np.float32), "is not 8 float32 values"),
        (np.array([1, 1, 1, 0, 1, 1, 1, 1], np.float32), "not positive"),
        (np.array([1, 1, 1, -2, 1, 1, 1, 1], np.float32), "not positive"),
        (np.array([1, 1, 1, np.nan, 1, 1, 1, 1], np.float32), "not positive"),
        (np.array([1, 1, 1, np.inf, 1, 1, 1, 1], np.float32), "not positive"),
    ],
)
def test_llama3_factors_that_make_no_sense(tmp_path: Path, factors: Any, problem: str) -> None:
    def edit(writer: Any) -> None:
        add_byte_tokens(writer, MODEL.vocab_size)
        writer.add_tensor("rope_freqs.weight", factors)

    write_checkpoint(MODEL, tmp_path / "bad.gguf", edit=edit)
    with pytest.raises(MalformedFile, match=problem):
        describe_gguf(read_gguf(tmp_path / "bad.gguf"))


# ---- refusals


UNSUPPORTED: Mapping[str, dict[str, Any]] = {
    "the architecture 'quux' of tiny.gguf": {"general__architecture": "quux"},
    "the architecture 'mamba' (state-space layers) of tiny.gguf": {"general__architecture": "mamba"},
    "the architecture 'gpt-oss' (attention sinks) of tiny.gguf": {"general__architecture": "gpt-oss"},
    "the tensor 'blk.0.ffn_gate.weight' of tiny.gguf": {"expert_count": 8, "expert_used_count": 2},
    "the rope scaling 'longrope' of tiny.gguf": {"rope__scaling__type": "longrope"},
    "the setting 'llama.logit_scale' of tiny.gguf": {"logit_scale": 0.5},
    "the setting 'llama.attention.clamp_kqv' of tiny.gguf": {"attention__clamp_kqv": 8.0},
    "the tensor 'blk.1.attn_norm.weight' of tiny.gguf": {"block_count": 1},
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_things_are_named_with_what_runs_them(tmp_path: Path, what: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        described(tmp_path, **UNSUPPORTED[what])
    assert caught.value.message == f"The native engine does not run {what}."
    assert caught.value.hint is not None
    assert "llamacpp" in caught.value.hint


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    def edit(writer: Any) -> None:
        add_byte_tokens(writer, MODEL.vocab_size)
        writer.add_tensor("blk.0.attn_q_norm.weight", np.zeros(16, np.float32))

    write_checkpoint(MODEL, tmp_path / "normed.gguf", edit=edit)
    with pytest.raises(UnsupportedModel, match=r"the tensor 'blk\.0\.attn_q_norm\.weight' of normed\.gguf"):
        describe_gguf(read_gguf(tmp_path / "normed.gguf"))


BIG = 2**31 - 1
MALFORMED: Mapping[str, tuple[dict[str, Any], str]] = {
    "no width": ({"embedding_length": None}, r"'llama\.embedding_length' is missing"),
    "no heads": ({"attention__head_count": None}, r"'llama\.attention\.head_count' is missing"),
    "zero heads": ({"attention__head_count": 0}, "head_count' is 0"),
    "heads per layer": ({"attention__head_count": [6, 6]}, "expected a whole number"),
    "heads that cannot share": ({"attention__head_count_kv": 4}, "6 heads cannot share 4"),
    "other value heads": ({"attention__value_length": 8}, "cannot share"),
    "more heads than would fit": (
        {"attention__head_count": 2**26 + 2, "attention__head_count_kv": 2},  # times 16 is small in 32 bits
        "67108866 heads of 16",
    ),
    "heads too long": ({"attention__key_length": BIG, "attention__value_length": BIG}, "6 heads of 2147483647"),
    "zero layers": ({"block_count": 0}, "block_count' is 0"),
    "layers without end": ({"block_count": BIG}, "expected 1 to 10000"),
    "text for a number": ({"feed_forward_length": "72"}, "is a text"),
    "no context": ({"context_length": None}, "context_length' is missing"),
    "negative window": ({"attention__sliding_window": -1.0}, "sliding_window' is a number"),
    "no epsilon": ({"attention__layer_norm_rms_epsilon": None}, "epsilon' is missing"),
    "epsilon that is none": ({"attention__layer_norm_rms_epsilon": float("nan")}, "expected a finite number"),
    "frequencies that do not fall": ({"rope__freq_base": 1.0}, "freq_base' is 1.0"),
    "half a pair": ({"rope__dimension_count": 15}, "15 elements"),
    "more rotated than there is": ({"rope__dimension_count": 18}, "expected 2 to 16"),
    "shrinking factor": ({"rope__scaling__type": "linear", "rope__scaling__factor": 0.0}, "factor' is 0.0"),
    "yarn from nowhere": ({"rope__scaling__type": "yarn", "rope__scaling__factor": 2.0}, "original_context_length"),
    "no architecture": ({"general__architecture": None}, r"'general\.architecture' is missing"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_contradictions_are_refused(tmp_path: Path, case: str) -> None:
    changes, problem = MALFORMED[case]
    with pytest.raises(MalformedFile, match=problem) as caught:
        described(tmp_path, **changes)
    assert caught.value.path == str(tmp_path / "tiny.gguf")


def test_a_model_needs_an_embedding(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "empty.gguf", "llama")
    write = changed(
        {
            "embedding_length": 64,
            "block_count": 1,
            "attention.head_count": 4,
            "feed_forward_length": 64,
            "context_length": 9,
        }
    )
    write(writer)
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    for finish in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        finish()
    writer.close()
    with pytest.raises(MalformedFile, match="'token_embedding' is missing"):
        describe_gguf(read_gguf(tmp_path / "empty.gguf"))


def test_the_starter_model(starter_gguf: Path) -> None:
    description = describe_gguf(read_gguf(starter_gguf))
    spec = description.spec
    assert (spec.n_layers, spec.n_embd, spec.n_heads, spec.n_kv_heads, spec.head_dim) == (30, 576, 9, 3, 64)
    assert (spec.n_ff, spec.vocab_size, spec.context_tokens) == (1536, 49152, 8192)
    assert description.tensors["0.query"].type == TensorType.Q4_1
    assert "output" not in description.tensors


def test_supported_architectures_are_told() -> None:
    assert "llama" in supported_architectures()
