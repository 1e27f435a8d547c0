"""What the catalog computes of a model that is not here, against one of its family that is: the same settings give the
same spec and the same tensors, and the formula of the cache counts what the engine's pages take.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import MalformedFile
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.families.blueprint import describe_blueprint, draw, plan_gguf
from madang.formats.families.implied import part_of_name
from madang.formats.families.sources import Blueprint
from madang.formats.folder import read_folder
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from madang.hardware import Choice, Plan, kv_cache_bytes, page_groups
from madang.hardware.kv_cache import KV_TYPES
from madang.models import load_catalog
from madang.native.loader import load_decoder
from madang.native.page_table import PageTable
from madang.native.pages import PagePool, pages_for
from tests.parity.families import FAMILIES, Built, Family, build

# Each head of its keys has a norm of its own, and there are fewer of them than of queries: no settings say so.
LEFT_OUT = "stablelm-12b"
# Files hold rows of these that no text of ours needs.
MORE_ROWS = ("type_embedding", "position_embedding")
DRAWN = [family for family in FAMILIES if family.name != LEFT_OUT]
N_TOKENS, STEP_TOKENS = 300, 40


@pytest.fixture(scope="module", params=DRAWN, ids=str)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One of the families."""
    family: Family = request.param
    return build(family, tmp_path_factory.mktemp("blueprints"))


def drawn(built: Built, description: ModelDescription) -> Blueprint:
    """From what its config.json says, and the two sizes that some families leave to their code."""
    spec = description.spec
    sizes = {"num_key_value_heads": spec.n_kv_heads}
    if spec.experts is None:
        sizes["intermediate_size"] = spec.n_ff
    parts = frozenset(map(part_of_name, description.tensors))
    return draw({**read_folder(built.folder).metadata, **sizes}, parts)


def test_a_blueprint_is_the_folder_without_its_weights(built: Built) -> None:
    here = describe_folder(built.folder)
    planned = describe_blueprint(drawn(built, here))
    assert planned.spec == here.spec
    assert planned.tensors.keys() == here.tensors.keys()
    for name, tensor in here.tensors.items():
        if name not in MORE_ROWS:
            assert planned.tensors[name].shape == tensor.shape, name


def test_its_gguf_file_has_the_names_and_shapes_that_the_converter_writes(built: Built) -> None:
    if built.gguf is None or built.family.name in ("phi3-long", "llama", "exaone"):
        pytest.skip("it has no GGUF form, or one with frequencies as tensors")
    here = describe_folder(built.folder)
    blueprint = drawn(built, here)
    planned = plan_gguf(blueprint, describe_blueprint(blueprint))
    file = read_gguf(built.gguf)
    assert planned.architecture == file.architecture
    written = {name: tensor.shape for name, tensor in file.tensors.items()}
    ours = {tensor.name: tensor.shape for tensor, _ in planned.tensors}
    assert ours.keys() == written.keys()
    for name, shape in written.items():
        if name != "position_embd.weight":
            assert ours[name] == shape, name


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_the_formula_counts_what_the_engine_allocates(built: Built, kv_type: str) -> None:
    """A text is read step by step, with the engine's own pool and table; the most bytes of pages at a time are counted.

    Steps may begin and end anywhere in a page, so with windows the formula counts up to one page of each group more.
    """
    here = describe_folder(built.folder)
    spec = describe_blueprint(drawn(built, here)).spec
    groups = page_groups(spec)
    plan = Plan(Choice(1, "test"), Choice(512, "test"), kv_type=Choice(kv_type, "test"))
    decoder = load_decoder(built.family.name, here, plan, groups)
    pool, table, most = PagePool(decoder, 10**9), PageTable(groups), 0
    for begin in range(0, N_TOKENS, STEP_TOKENS):
        n = min(STEP_TOKENS, N_TOKENS - begin)
        n_columns = max(pages_for(begin + n) - table.n_columns, 0)
        table.append(pool.allocate(n_columns * groups.n_groups) or [])
        most = max(most, pool.n_used)
        if spec.causal:
            tokens, positions = np.full(n, 5, np.int32), np.arange(begin, begin + n, dtype=np.int32)
            decoder.step(tokens, positions, np.zeros(n, np.int32), table.rows, np.array([n - 1], np.int32))
        pool.release(table.leave_behind(begin + n))
    page_bytes = decoder.read_page(0).nbytes
    counted = kv_cache_bytes(spec, N_TOKENS, kv_type=kv_type, step_tokens=STEP_TOKENS)
    assert counted - groups.n_window * page_bytes <= most * page_bytes <= counted
    if not groups.n_window:
        assert most * page_bytes == counted


def test_all_of_the_catalogs_families_are_among_these() -> None:
    shaped = {entry.family for entry in load_catalog().entries.values() if entry.shape is not None}
    tried = {"exaone"}  # built from Llama's class
    for family in DRAWN:
        tried.add({"Gemma3": "gemma3_text", "XLMRoberta": "xlm-roberta"}.get(family.model, _model_type(family)))
    assert shaped <= tried


def _model_type(family: Family) -> str:
    import transformers

    config = getattr(transformers, f"{family.model}Config")
    return str(config.model_type)


def test_a_part_that_its_family_does_not_know_is_refused() -> None:
    config = load_catalog().entries["smollm2:135m"].shape
    assert config is not None
    with pytest.raises(MalformedFile, match="no part 'query_norm'"):
        describe_blueprint(draw(config.config, frozenset({"query_norm"})))


def test_the_starter_is_what_the_catalog_says(starter_gguf: Path) -> None:
    entry = load_catalog().entries["smollm2:135m"]
    blueprint = entry.blueprint()
    assert blueprint is not None
    planned = describe_blueprint(blueprint)
    here = describe_gguf(read_gguf(starter_gguf))
    assert {name: tensor.shape for name, tensor in planned.tensors.items()} == {
        name: tensor.shape for name, tensor in here.tensors.items()
    }
    assert kv_cache_bytes(planned.spec, 8192) == kv_cache_bytes(here.spec, 8192)
