"""Names for PyTorch, and what fits which matrices."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.core.errors import CannotQuantize, InvalidRequest
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.checkpoint_types import CHECKPOINT_TYPES, find_checkpoint_type, layer_matrices, settle_recipe


def tensors(n_columns: int, n_rows: int = 64) -> dict[str, TensorInfo]:
    """A layer's matrix and norm, and an embedding."""
    shapes = {
        "model.embed_tokens.weight": (100, n_columns),
        "model.layers.0.mlp.up_proj.weight": (n_rows, n_columns),
        "model.layers.0.input_layernorm.weight": (n_columns,),
    }
    return {name: TensorInfo(name, TensorType.F16, shape, Path("x"), 0) for name, shape in shapes.items()}


def test_names_are_found_in_any_case() -> None:
    assert find_checkpoint_type("nf4") is CHECKPOINT_TYPES["NF4"]
    assert find_checkpoint_type("Q4_K_M") is None


def test_only_matrices_of_layers_become_smaller() -> None:
    assert [matrix.name for matrix in layer_matrices(tensors(64))] == ["model.layers.0.mlp.up_proj.weight"]
    recipe = settle_recipe(CHECKPOINT_TYPES["NF4"], tensors(64), bits=None, group_size=None)
    rest_bytes = 2 * (100 * 64 + 64)
    assert rest_bytes + 64 * 64 // 2 < recipe.size_bytes(tensors(64)) < rest_bytes + 64 * 64


@pytest.mark.parametrize(("n_columns", "group_size"), [(256, 128), (576, 64), (96, 32), (48, 16)])
def test_a_group_divides_the_rows(n_columns: int, group_size: int) -> None:
    recipe = settle_recipe(CHECKPOINT_TYPES["GPTQ"], tensors(n_columns), bits=None, group_size=None)
    assert (recipe.group_size, recipe.bits, recipe.name) == (group_size, 4, "GPTQ-4")


@pytest.mark.parametrize(
    ("name", "n_columns", "choices", "problem", "hint"),
    [
        ("GPTQ", 576, {"group_size": 128}, "rows of 576 columns cannot be cut into groups of 128", "--group-size 64"),
        ("AWQ", 100, {}, "rows of 100 columns cannot be cut into groups of 16", "NF4 or INT8"),
        ("GPTQ", 64, {"bits": 5}, "GPTQ has 2 or 3 or 4 or 8 bits, not 5", "--bits"),
        ("NF4", 64, {"bits": 8}, "NF4 has 4 bits, not 8", "--bits"),
        ("INT8", 64, {"group_size": 64}, "INT8 has no groups to choose, not 64", "--group-size"),
        ("AWQ", 64, {"group_size": 100}, "AWQ has groups of 16 or 32 or 64 or 128, not 100", "--group-size"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(
    name: str, n_columns: int, choices: dict[str, int], problem: str, hint: str
) -> None:
    given = {"bits": None, "group_size": None, **choices}
    with pytest.raises((InvalidRequest, CannotQuantize), match=problem) as refused:
        settle_recipe(CHECKPOINT_TYPES[name], tensors(n_columns), bits=given["bits"], group_size=given["group_size"])
    assert refused.value.hint is not None
    assert hint in refused.value.hint


def test_rows_that_awq_cannot_pack() -> None:
    with pytest.raises(CannotQuantize, match=r"AWQ needs a multiple of 8 rows, .* has 12"):
        settle_recipe(CHECKPOINT_TYPES["AWQ"], tensors(64, n_rows=12), bits=None, group_size=None)
