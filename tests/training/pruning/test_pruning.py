"""Cut models load in transformers and in the native engine, as folders and as GGUF files, and all agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from madang.conversion.to_gguf import to_gguf
from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.formats.safetensors import read_safetensors
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.training.pruning import (
    Cut,
    Widths,
    block_influence,
    least_influential,
    measure_widths,
    strongest_columns,
    strongest_heads,
    write_cut,
)
from tests.training.tiny import tiny_folder

TOKENS = list(range(10, 42))


def of_transformers(folder: Path) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


def of_native(path: Path) -> np.ndarray:
    return next(iter(MutableModel(path, 1).logits(TOKENS)))


def head_is_tied(folder: Path) -> bool:
    return "lm_head.weight" not in read_safetensors(folder)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("pruning"), tied=request.param)


CUTS = {
    "depth": Cut(layers=(0, 2, 3)),
    "ffn": Cut(ffn_columns=(tuple(range(0, 64, 2)),) * 4),
    "heads": Cut(heads=((0, 2), (1, 3), (0, 3), (1, 2))),
    "groups": Cut(heads=((0, 1), (2, 3), (0, 1), (2, 3))),
    "all": Cut((1, 3), (tuple(range(32)),) * 4, ((0,), (3,), (1,), (2,))),
}


@pytest.mark.parametrize("kind", CUTS)
def test_every_reader_agrees(folder: Path, tmp_path: Path, kind: str) -> None:
    cut = tmp_path / "cut"
    write_cut(folder, cut, CUTS[kind])
    expected = of_transformers(cut)
    # The native cache is float16, so some digits differ, and others where a file pairs rows otherwise.
    np.testing.assert_allclose(of_native(cut), expected, atol=2e-2)
    to_gguf(cut, tmp_path / "cut.gguf", TensorType.F32)
    np.testing.assert_allclose(of_native(tmp_path / "cut.gguf"), of_native(cut), atol=5e-3)
    assert head_is_tied(cut) == head_is_tied(folder)


def test_a_cut_of_nothing_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    whole = Cut((0, 1, 2, 3), (tuple(range(64)),) * 4, ((0, 1, 2, 3),) * 4)
    write_cut(folder, tmp_path / "cut", whole)
    np.testing.assert_array_equal(of_transformers(tmp_path / "cut"), of_transformers(folder))


def test_columns_that_do_nothing_can_go(folder: Path, tmp_path: Path) -> None:
    """Where the down matrix has zeros, activations cannot matter."""
    from safetensors.numpy import load_file, save_file

    changed = tmp_path / "changed"
    write_cut(folder, changed, Cut())
    weights = load_file(changed / "model.safetensors")
    for layer in range(4):
        weights[f"model.layers.{layer}.mlp.down_proj.weight"][:, 32:] = 0
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    write_cut(changed, tmp_path / "cut", Cut(ffn_columns=(tuple(range(32)),) * 4))
    np.testing.assert_allclose(of_transformers(tmp_path / "cut"), of_transformers(changed), atol=1e-5)


def test_lists_of_layers_in_the_settings_follow(folder: Path, tmp_path: Path) -> None:
    write_cut(folder, tmp_path / "all", Cut())
    config = tmp_path / "all" / "config.json"
    kinds = ["full_attention", "other", "full_attention", "last"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_types": kinds}))
    write_cut(tmp_path / "all", tmp_path / "cut", Cut(layers=(1, 3)))
    written = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert written["layer_types"] == ["other", "last"]
    assert written["num_hidden_layers"] == 2


@pytest.mark.parametrize(
    "cut",
    [
        Cut(layers=()),
        Cut(layers=(0, 4)),
        Cut(layers=(2, 1)),
        Cut(ffn_columns=((0, 1),)),
        Cut(ffn_columns=((0, 64),) * 4),
        Cut(heads=((0, 1, 2),) * 4),
        Cut(heads=((0, 1), (0, 2), (0, 1), (0, 1))),
    ],
)
def test_numbers_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, cut: Cut) -> None:
    with pytest.raises(InvalidRequest):
        write_cut(folder, tmp_path / "cut", cut)
    assert not (tmp_path / "cut").exists()


def test_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    write_cut(folder, tmp_path / "other", Cut())
    config = tmp_path / "other" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "gpt2"}))
    with pytest.raises(UnsupportedModel, match="gpt2"):
        write_cut(tmp_path / "other", tmp_path / "cut", Cut(layers=(0,)))


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidRequest, match="exists already"):
        write_cut(folder, tmp_path / "there", Cut(layers=(0,)))


class Traced:
    """A model of three layers, the middle of which passes on what it reads."""

    def trace(self, prompt: list[int], *, n_top: int = 5) -> object:
        from madang.core.engine import Trace

        read = np.ones((4, len(prompt), 8), np.float32)
        read[1, :, :4] = -1
        read[2] = read[1]
        read[3] = -read[2]
        return Trace(prompt, read, None, None, None)


def test_influence_is_how_much_a_layer_turns_what_it_reads() -> None:
    influence = block_influence(Traced(), [[1, 2], [3, 4, 5]])
    np.testing.assert_allclose(influence, [1, 0, 2], atol=1e-6)
    assert least_influential(influence, 2) == (0, 2)
    assert least_influential(influence, 1) == (2,)
    for wrong in (0, 3):
        with pytest.raises(InvalidRequest):
            least_influential(influence, wrong)


def test_influence_without_text_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        block_influence(Traced(), [])


def test_widths_are_mean_squares_of_what_is_handed_on(folder: Path) -> None:
    """As hooks in torch see them."""
    widths = measure_widths(MutableModel(folder, 1), [TOKENS])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> object:
        return lambda module, given: seen.update({name: given[0][0].detach().numpy()})

    model.model.layers[1].mlp.down_proj.register_forward_pre_hook(keep("ffn"))
    model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(keep("heads"))
    with torch.inference_mode():
        model(torch.tensor([TOKENS]))
    np.testing.assert_allclose(widths.ffn[1], (seen["ffn"] ** 2).mean(0), rtol=1e-2, atol=1e-6)
    heads = (seen["heads"] ** 2).mean(0).reshape(4, 16).sum(1)
    np.testing.assert_allclose(widths.heads[1], heads, rtol=1e-2, atol=1e-6)


def test_the_strongest_stay() -> None:
    widths = Widths(np.array([[3, 1, 2], [1, 2, 3]], np.float32), np.array([[1, 5, 2, 2], [4, 1, 1, 1]], np.float32), 2)
    assert strongest_columns(widths, 2) == ((0, 2), (1, 2))
    assert strongest_heads(widths, 2) == ((1, 2), (0, 2))
    assert strongest_heads(widths, 2, 1) == ((0, 1), (0, 1))
    assert strongest_heads(widths, 4) == ((0, 1, 2, 3),) * 2
    for n_heads, n_kv in ((3, 2), (2, 3), (0, 1), (4, 1)):
        with pytest.raises(InvalidRequest):
            strongest_heads(widths, n_heads, n_kv)
    with pytest.raises(InvalidRequest):
        strongest_columns(widths, 4)
