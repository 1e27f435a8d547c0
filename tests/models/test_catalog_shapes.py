"""Facts of the catalog against each other: what follows from a shape must be what the publisher says."""

from __future__ import annotations

from math import prod

import pytest

from madang.formats.families import supported_model_types
from madang.formats.families.blueprint import Blueprint, describe_blueprint, draw, plan_gguf
from madang.formats.spec import ModelDescription
from madang.models import CatalogEntry, load_catalog

ENTRIES = load_catalog().entries
SHAPED = [entry for entry in ENTRIES.values() if entry.shape is not None]
UNREAD = 1_000_000  # a stated count without a shape is rounded at least to this


@pytest.mark.parametrize("entry", SHAPED, ids=lambda entry: str(entry.reference))
def test_the_shape_has_exactly_the_stated_parameters(entry: CatalogEntry) -> None:
    blueprint = entry.blueprint()
    assert blueprint is not None
    description = describe_blueprint(blueprint)
    assert count_parameters(blueprint, description) == entry.parameters
    spec = description.spec
    assert entry.context_tokens is not None
    assert entry.context_tokens <= spec.context_tokens
    assert description.tensors["0.key"].shape == (spec.n_kv_heads * spec.head_dim, spec.n_embd)
    assert ("output" in description.tensors) or blueprint.get_bool("tie_word_embeddings", False) or not spec.causal


@pytest.mark.parametrize("entry", SHAPED, ids=lambda entry: str(entry.reference))
def test_a_gguf_file_holds_every_tensor_of_the_shape(entry: CatalogEntry) -> None:
    blueprint = entry.blueprint()
    assert blueprint is not None
    description = describe_blueprint(blueprint)
    tensors = [tensor for tensor, _ in plan_gguf(blueprint, description).tensors]
    here = sum(tensor.n_elements for tensor in tensors)
    n_pooler = spec_pooler(description.spec.n_embd) if blueprint.get_bool("has_pooler", False) else 0
    assert here == (entry.parameters or 0) - n_pooler
    assert len({tensor.name for tensor in tensors}) == len(tensors)


def spec_pooler(n_embd: int) -> int:
    """A matrix from pre-training that some encoders' files hold, and no text's vector needs."""
    return n_embd * n_embd + n_embd


def count_parameters(blueprint: Blueprint, description: ModelDescription) -> int:
    """Weights in the model's files, as its publisher counts them."""
    n_pooler = spec_pooler(description.spec.n_embd) if blueprint.get_bool("has_pooler", False) else 0
    return n_pooler + sum(prod(tensor.shape) for tensor in description.tensors.values())


def test_what_has_no_shape_is_rounded() -> None:
    for entry in ENTRIES.values():
        if entry.shape is None and entry.parameters is not None:
            assert entry.parameters % UNREAD == 0, entry.reference


def test_every_shape_is_of_a_family_that_is_read() -> None:
    assert {entry.family for entry in SHAPED} <= set(supported_model_types())


def test_every_entry_says_what_a_choice_needs() -> None:
    for name, entry in ENTRIES.items():
        assert entry.license is not None, name
        assert entry.year is not None, name
        assert entry.repository is not None, name
        assert len(set(entry.tasks)) == len(entry.tasks), name
        assert entry.format == "huggingface" or entry.types, name


def test_a_wrong_number_is_noticed() -> None:
    """What the checksum is worth: any one setting that is off by the least possible is found."""
    smollm = ENTRIES["smollm2:135m"]
    assert smollm.shape is not None
    config = dict(smollm.shape.config)
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size"):
        step = 18 if key == "hidden_size" else 6 if key == "num_key_value_heads" else 1
        wrong = draw({**config, key: config[key] + step})
        assert count_parameters(wrong, describe_blueprint(wrong)) != smollm.parameters
    wrong = draw({**config, "tie_word_embeddings": False})
    assert count_parameters(wrong, describe_blueprint(wrong)) != smollm.parameters
