"""Merging: the arithmetic by hand, adapters against what they add, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
from safetensors.numpy import load_file, save_file

from madang.conversion.adapters import adapter_to_gguf
from madang.core.errors import InvalidRequest, UnknownOption, UnsupportedModel
from madang.training.merging import Recipe, merge_values, open_source, recipes_to_try, sweep, write_merged
from madang.training.pruning import Cut, write_cut
from tests.training.tiny import SHAPE, sequences, tiny_folder

A = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
B = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
ZERO = np.zeros((2, 2), np.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("merging"))


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def shifted(base: Path, target: Path, by: float) -> Path:
    write_cut(base, target, Cut())
    draws = np.random.default_rng(int(by * 1000))
    changed = {
        name: weight + by * draws.normal(size=weight.shape).astype(np.float32)
        for name, weight in weights_of(target).items()
    }
    save_file(changed, target / "model.safetensors", metadata={"format": "pt"})
    return target


def adapter_of(path: Path, *, rank: int = 2, alpha: int = 4) -> tuple[Path, str, np.ndarray]:
    """A PEFT folder of one matrix of queries, and what it adds."""
    path.mkdir()
    draws = np.random.default_rng(3)
    name = "model.layers.1.self_attn.q_proj"
    a = draws.normal(size=(rank, SHAPE.n_embd)).astype(np.float32)
    b = draws.normal(size=(SHAPE.n_heads * SHAPE.head_dim, rank)).astype(np.float32)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj"], "bias": "none"}
    path.joinpath("adapter_config.json").write_text(json.dumps(config))
    prefix = f"base_model.model.{name}.lora_"
    save_file({f"{prefix}A.weight": a, f"{prefix}B.weight": b}, path / "adapter_model.safetensors")
    return path, f"{name}.weight", alpha / rank * (b @ a)


def test_linear_is_the_weighted_mean() -> None:
    np.testing.assert_allclose(merge_values("w", [A, B], None, Recipe("linear", (3, 1))), 0.75 * A + 0.25 * B)


def test_slerp_keeps_lengths_and_is_a_line_where_there_is_no_arc() -> None:
    half = merge_values("w", [A, B], None, Recipe("slerp", (1, 1)))
    np.testing.assert_allclose(half, (A + B) / np.sqrt(2), rtol=1e-6)  # they are at a right angle
    assert np.linalg.norm(half) == pytest.approx(np.linalg.norm(A))
    np.testing.assert_allclose(merge_values("w", [A, B], None, Recipe("slerp", (1, 0))), A, atol=1e-6)
    np.testing.assert_allclose(merge_values("w", [A, 3 * A], None, Recipe("slerp", (1, 1))), 2 * A)
    np.testing.assert_allclose(merge_values("w", [A, ZERO], None, Recipe("slerp", (1, 1))), A / 2)


def test_ties_keeps_the_largest_and_the_sign_that_wins() -> None:
    base = np.zeros((1, 4), np.float32)
    one = np.array([[4.0, -3.0, 0.1, 0.0]], np.float32)
    other = np.array([[2.0, 1.0, 0.2, 0.0]], np.float32)
    found = merge_values("w", [one, other], base, Recipe("ties", (1, 1), density=0.5))
    np.testing.assert_allclose(found, [[3.0, -3.0, 0, 0]])
    doubled = merge_values("w", [one, other], base + 1, Recipe("ties", (1, 1), density=1, scale=2.0))
    assert doubled.shape == (1, 4)


def test_dare_leaves_out_at_random_and_keeps_the_mean() -> None:
    base, one = np.zeros((200, 200), np.float32), np.ones((200, 200), np.float32)
    recipe = Recipe("dare", (1.0,), density=0.25, seed=7)
    found = merge_values("w", [one], base, recipe)
    assert set(np.unique(found)) == {0.0, 4.0}
    assert found.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(found, merge_values("w", [one], base, recipe))
    assert (found != merge_values("v", [one], base, recipe)).any()


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare"])
def test_equal_models_give_themselves(base: Path, tmp_path: Path, method: str) -> None:
    sources = [open_source(base), open_source(base)]
    write_merged(tmp_path / "merged", sources, Recipe(method, (0.3, 0.7), density=0.5), open_source(base))
    for name, weight in weights_of(base).items():
        np.testing.assert_allclose(weights_of(tmp_path / "merged")[name], weight, atol=1e-6)


@pytest.mark.parametrize("form", ["PEFT", "GGUF"])
def test_an_adapter_adds_what_it_says_and_nothing_else(base: Path, tmp_path: Path, form: str) -> None:
    adapter, changed, added = adapter_of(tmp_path / "adapter")
    if form == "GGUF":
        adapter_to_gguf(adapter, tmp_path / "adapter.gguf", base, "huggingface")
        adapter = tmp_path / "adapter.gguf"
    write_merged(tmp_path / "merged", [open_source(adapter, base)], Recipe("linear", (1.0,)))
    before, after = weights_of(base), weights_of(tmp_path / "merged")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        np.testing.assert_allclose(after[name], weight + (added if name == changed else 0), atol=1e-5)


def test_an_adapter_is_merged_into_its_whole_base_or_not_at_all(base: Path, tmp_path: Path) -> None:
    adapter, _, _ = adapter_of(tmp_path / "adapter")
    quantized = tmp_path / "quantized"
    write_cut(base, quantized, Cut())
    config = quantized / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(InvalidRequest, match="quantized"):
        open_source(adapter, quantized)
    with pytest.raises(InvalidRequest, match="never into a quantized"):
        open_source(adapter, base.with_suffix(".gguf"))
    with pytest.raises(InvalidRequest, match="needs the model"):
        open_source(adapter)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": "pissa"}))
    with pytest.raises(UnsupportedModel, match="changed the base"):
        open_source(adapter, base)


def test_models_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    write_cut(base, tmp_path / "short", Cut(layers=(0, 1)))
    sources = [open_source(base), open_source(tmp_path / "short")]
    with pytest.raises(InvalidRequest, match="do not fit"):
        write_merged(tmp_path / "merged", sources, Recipe("linear", (1, 1)))
    assert not (tmp_path / "merged").exists()


def test_recipes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UnknownOption):
        Recipe("linaer", (1, 1))
    for wrong in ({"weights": ()}, {"weights": (1, -1)}, {"density": 0.0}, {"scale": float("nan")}):
        with pytest.raises(InvalidRequest):
            Recipe(**({"method": "ties", "weights": (1, 1)} | wrong))
    with pytest.raises(InvalidRequest, match="two models"):
        Recipe("slerp", (1, 1, 1))
    with pytest.raises(InvalidRequest, match="come from"):
        merge_values("w", [A, B], None, Recipe("ties", (1, 1)))


def test_a_sweep_takes_what_is_best_on_validation(base: Path, tmp_path: Path) -> None:
    """The model whose weights were shaken hard must have the smallest share."""
    worse = shifted(base, tmp_path / "worse", 0.5)
    from madang.native import MutableModel
    from madang.quantization.divergence import rows_of

    model = MutableModel(base, 1)
    chunks = []
    for item in sequences(2, 24):  # what the base itself would write
        tokens = item.input_ids[:1].tolist()
        for _ in range(23):
            tokens.append(int(rows_of(model, [*tokens, 0])[-1].argmax()))
        chunks.append(tokens)
    recipes = recipes_to_try(2, ["linear", "slerp"])
    swept = sweep(tmp_path / "merged", [open_source(base), open_source(worse)], recipes, chunks)
    assert len(swept.tried) == len(recipes) == 6
    assert swept.best.weights == (0.75, 0.25)
    assert (
        min(value for _, value in swept.tried)
        == dict(zip([r for r, _ in swept.tried], [v for _, v in swept.tried], strict=True))[swept.best]
    )
    expected = merge_values(
        "w", [weights_of(base)["model.norm.weight"], weights_of(worse)["model.norm.weight"]], None, swept.best
    )
    np.testing.assert_allclose(weights_of(tmp_path / "merged")["model.norm.weight"], expected, rtol=1e-5)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
