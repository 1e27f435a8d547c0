"""``madang importance``, and ``madang quantize`` to a size: what people type and what they get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.formats.families import describe_model
from madang.formats.gguf import read_gguf
from madang.hardware import kv_cache_bytes, packed_weights_bytes, working_bytes
from madang.hardware.plan import PREFILL_CHUNK_TOKENS
from madang.quantization.importance import read_importance
from tests.cli.conftest import Madang

pytest.importorskip("gguf")
from tests.parity.checkpoints import TinyModel, write_checkpoint

SHAPE = TinyModel("tiny", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=64, n_ff=96)
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "sleeps", "under", "trees")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(SHAPE, tmp_path_factory.mktemp("sizing") / "tiny.gguf").path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(np.random.default_rng(0).choice(WORDS, 4000)))
    return path


def test_importance(madang: Madang, model: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "importance.gguf"
    result = madang("importance", str(model), str(text), "-o", str(target), "--chunks", "3")
    assert result.status == 0, result.err
    assert "15 tensors, 3 chunks of 512 tokens" in result.out
    assert read_importance(target).counts["blk.0.attn_q.weight"].tolist() == [3 * 512]
    document = madang("importance", str(model), str(text), "-o", str(target), "--chunks", "2", "--json").json()
    assert document == {"path": str(target), "tensors": 15, "chunks": 2}


def test_a_size(madang: Madang, model: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    result = madang("quantize", str(model), str(target), "--size", "100kB", "--text", str(text))
    assert result.status == 0, result.err
    assert result.out.splitlines()[-1].startswith(str(target))
    assert "MEAN KL" in result.out.splitlines()[0]
    assert target.stat().st_size <= 100_000
    assert (tmp_path / "small.gguf.certificate.json").exists()
    assert "measuring matrices" in result.err


def test_bits_per_weight(madang: Madang, model: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    document = madang("quantize", str(model), str(target), "--bits", "9", "--text", str(text), "--json").json()
    n_weights = sum(tensor.n_elements for tensor in read_gguf(model).tensors.values())
    assert document["size_bytes"] <= 9 * n_weights / 8
    assert document["certificate"]["held_out"]["written"] in {"budget", "Q8_0"}


def test_memory(madang: Madang, model: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    spec = describe_model(model, "gguf").spec
    step_tokens = min(PREFILL_CHUNK_TOKENS, spec.context_tokens)
    cache_bytes = kv_cache_bytes(spec, spec.context_tokens, step_tokens=step_tokens)
    room_bytes = cache_bytes + working_bytes(spec, step_tokens) + 150_000
    words = ("quantize", str(model), str(target), "--text", str(text), "--fit-memory")
    certificate = madang(*words, f"{room_bytes}B", "--json").json()["certificate"]
    loaded_bytes = packed_weights_bytes(describe_model(target, "gguf").tensors.values())
    assert certificate["memory_limit_bytes"] == 150_000
    assert certificate["loaded_bytes"] == loaded_bytes
    assert 0.8 * 150_000 < loaded_bytes <= 150_000
    result = madang(*words, "40MB")
    assert result.status == 2
    assert "nothing is left for weights" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "1kB"), "is too small: the smallest that this model fits into"),
        (("--size", "much"), "is not a size"),
        (("--size", "1MB", "--bits", "4"), "exclude each other"),
        (("--size", "1MB", "--type", "Q4_0"), "--type makes no sense with --size"),
        (("--size", "1MB", "--pure"), "--pure makes no sense"),
        (("--size", "1MB", "--held-out", "x"), "--held-out without --text"),
        (("--size", "1MB", "--text", "nowhere.txt"), "cannot be read as text"),
        (("--text", "nowhere.txt"), "are for --size"),
    ],
)
def test_what_makes_no_sense(madang: Madang, model: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = madang("quantize", str(model), str(tmp_path / "small.gguf"), *options)
    assert result.status == 2
    assert said in result.err
    assert not (tmp_path / "small.gguf").exists()
