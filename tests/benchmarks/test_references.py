"""The models that quantizers are measured on are the functions that they should be."""

from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
import references  # noqa: E402  (needs gguf)
from madang.native import MutableModel  # noqa: E402
from tests.parity.checkpoints import TinyModel, write_checkpoint  # noqa: E402


def logits_of(path: Path, tokens: list[int]) -> np.ndarray:
    (rows,) = MutableModel(path, 1).logits(tokens)
    return rows


@pytest.mark.parametrize("tied", [True, False])
def test_a_rotated_model_is_the_same_function_with_other_weights(tmp_path: Path, tied: bool) -> None:
    shape = TinyModel("tiny", n_heads=6, n_kv_heads=2, head_dim=32, n_embd=192, n_ff=224, tied=tied)
    source = write_checkpoint(shape, tmp_path / "source.gguf").path
    target = tmp_path / "rotated.gguf"
    assert references.main(["rotated", str(source), str(target), "--type", "F32"]) == 0
    tokens = np.random.default_rng(0).integers(3, 259, 60).tolist()
    before, after = logits_of(source, tokens), logits_of(target, tokens)
    assert np.abs(after - before).max() < 5e-3 * before.std()  # the cache keeps float16
    old, new = ({t.name: t.data for t in gguf.GGUFReader(path).tensors} for path in (source, target))
    for name in old:
        if old[name].ndim == 2:
            assert not np.allclose(old[name], new[name], atol=0.1 * old[name].std()), name


def test_the_rotated_starter_is_the_starter(starter_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "rotated.gguf"
    references.main(["rotated", str(starter_gguf), str(target), "--type", "F32"])
    tokens = np.random.default_rng(0).integers(20, 40_000, 40).tolist()
    before, after = logits_of(starter_gguf, tokens), logits_of(target, tokens)
    assert np.abs(after - before).max() < 0.02 * before.std()  # the source's activations keep 15 bits


def test_stories_tells_stories(shared_data: Path, tmp_path: Path) -> None:
    target = tmp_path / "stories.gguf"
    references.main(["stories", str(shared_data / "tiny"), str(target)])
    model = MutableModel(target, 1)
    tokens = list(model.tokenize("Once upon a time, there was a little"))
    for _ in range(4):
        (rows,) = model.logits(tokens)
        tokens.append(int(rows[-1].argmax()))
    words = [text for text, _ in references.read_words(shared_data / "tiny" / "tok512.bin", 512)]
    assert "girl" in "".join(words[token] for token in tokens[-4:]).replace("▁", " ")
