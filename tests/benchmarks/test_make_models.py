"""Model files: types, tokenizer and values survive a round through our writer."""

from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
import make_models  # noqa: E402  (needs gguf)

TOKENS = ["<s>", "</s>", "a", "b"] * 8


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    path = tmp_path / "Tiny-Instruct.Q4_1.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_bos_token_id(1)
    writer.add_rope_freq_base(12_345.0)
    writer.add_file_type(3)
    weights = np.random.default_rng(0).standard_normal((32, 64), dtype=np.float32)
    for name in ("token_embd.weight", "blk.0.attn_q.weight"):
        packed = gguf.quantize(weights, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(make_models, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(make_models, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def read(path: Path) -> tuple[dict[str, object], dict[str, tuple[str, np.ndarray]]]:
    reader = gguf.GGUFReader(path)
    tensors = {t.name: (t.tensor_type.name, gguf.dequantize(t.data, t.tensor_type)) for t in reader.tensors}
    return {key: field.contents() for key, field in reader.fields.items()}, tensors


def test_reencoding_keeps_metadata_and_values(starter: Path, models: Path) -> None:
    assert make_models.main(["reencode", str(starter), "--types", "F16,BF16,Q8_0,Q4_0"]) == 0
    _, before = read(starter)
    for kind, tolerance in (("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2), ("Q4_0", 4e-1)):
        keys, after = read(models / f"Tiny-Instruct.{kind}.gguf")
        assert keys["tokenizer.ggml.tokens"] == TOKENS
        assert keys["llama.rope.freq_base"] == 12_345.0
        assert keys["general.file_type"] == make_models.OWN_TYPES[kind]
        assert after["blk.0.attn_q.weight"][0] == kind
        assert after["output_norm.weight"][0] == "F32"
        assert np.abs(after["blk.0.attn_q.weight"][1] - before["blk.0.attn_q.weight"][1]).max() < tolerance
    assert after["token_embd.weight"][0] == "Q8_0"


def test_a_random_model_has_the_shape_and_the_starters_tokenizer(
    starter: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make_models.Shape(layers=2, embedding=64, feed_forward=96, heads=4, kv_heads=2)
    monkeypatch.setitem(make_models.SHAPES, "llama-1.1b", tiny)
    assert make_models.main(["random", str(starter), "--types", "Q4_1,F16"]) == 0
    keys, tensors = read(models / "random-llama-1.1b.Q4_1.gguf")
    assert keys["tokenizer.ggml.tokens"] == TOKENS and keys["llama.vocab_size"] == len(TOKENS)
    assert keys["llama.attention.head_count_kv"] == 2
    assert len(tensors) == 2 + 2 * 9
    assert tensors["blk.1.attn_k.weight"][0] == "Q4_1" and tensors["blk.1.attn_k.weight"][1].shape == (32, 64)
    _, full = read(models / "random-llama-1.1b.F16.gguf")
    assert np.abs(full["blk.1.ffn_up.weight"][1] - tensors["blk.1.ffn_up.weight"][1]).max() < 0.01
    assert not np.array_equal(full["blk.0.ffn_up.weight"][1], full["blk.1.ffn_up.weight"][1])


def test_files_that_are_there_are_left_alone(starter: Path, models: Path) -> None:
    models.mkdir()
    kept = models / "Tiny-Instruct.F16.gguf"
    kept.write_bytes(b"mine")
    assert make_models.main(["reencode", str(starter), "--types", "F16"]) == 0
    assert kept.read_bytes() == b"mine"


def test_k_quants_without_llama_cpp_say_what_to_type(
    starter: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("environments.ENVIRONMENTS", tmp_path / "none")
    assert make_models.main(["reencode", str(starter), "--types", "Q4_K_M"]) == 1
    assert "peers.py setup --peers llama.cpp" in capsys.readouterr().err
