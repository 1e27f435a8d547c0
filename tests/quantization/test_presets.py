"""A preset's name means the same types here as in llama.cpp, whose choices for many models are on record."""

from __future__ import annotations

import json

import pytest

from madang.core.errors import UnknownOption
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import WRITABLE_TYPES
from madang.quantization.presets import PRESETS, find_preset, preset_types
from tests.quantization.preset_models import OUTLINES, RECORD, VARIANTS, by_kind

_RECORD = json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_types_are_those_of_llama_cpp(name: str, preset: str) -> None:
    outline, expected = OUTLINES[name], _RECORD[name][preset]
    for variant in VARIANTS:
        types = preset_types(
            find_preset(preset),
            outline.tensors(),
            outline.facts,
            has_importance=variant == "importance",
            pure=variant == "pure",
        )
        names = {tensor: tensor_type.name for tensor, tensor_type in types.items()}
        assert by_kind(names) == expected.get(variant, expected[""]), variant


def test_every_outline_is_on_record_with_something_to_tell() -> None:
    assert _RECORD.keys() == OUTLINES.keys()
    choices = [json.dumps(_RECORD[name][preset]) for name in OUTLINES for preset in PRESETS]
    assert len(set(choices)) > 150


@pytest.mark.parametrize("preset", PRESETS)
def test_every_type_of_a_preset_can_be_written_into_its_rows(preset: str) -> None:
    for outline in OUTLINES.values():
        tensors = outline.tensors()
        types = preset_types(find_preset(preset), tensors, outline.facts)
        assert list(types) == [tensor.name for tensor in tensors]
        for tensor in tensors:
            assert types[tensor.name] in WRITABLE_TYPES
            assert tensor.shape[-1] % types[tensor.name].block_elements == 0


def test_tensors_that_are_no_matrices_keep_their_type() -> None:
    def tensor(name: str, *shape: int) -> TensorInfo:
        return TensorInfo(name, TensorType.F32, shape, RECORD, 0)

    kept = [
        tensor("blk.0.attn_norm.weight", 256),
        tensor("blk.0.attn_q.bias", 256),
        tensor("blk.0.attn_k_norm.weight", 4, 256),
        tensor("blk.0.ffn_gate_inp.weight", 8, 256),
        tensor("rope_freqs.weight", 32),
        tensor("cls.output.bias", 4, 256),
        tensor("blk.0.attn_q.weight", 1, 256),
    ]
    types = preset_types(find_preset("q4_0"), kept, OUTLINES["llama"].facts)
    assert set(types.values()) == {TensorType.F32}


def test_an_unknown_preset() -> None:
    with pytest.raises(UnknownOption, match="no preset named 'Q4_K_X'") as caught:
        find_preset("Q4_K_X")
    assert "Q4_K_M" in str(caught.value.hint)
