"""The KV formula against the core's own cache, for every model of the catalog whose shape is known.

A decoder is built from the true shape of each: all layers, heads, windows and groups of layers. It has no weights, and
needs none to lay out its cache. What is compared: the size of a page, which the core computes; and how many pages a
text holds at a time, which the engine's pool and table find out step by step. That these pages are really written to
and read is tested with small models of each family (tests/parity/test_blueprints.py).
"""

from __future__ import annotations

from math import ceil
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from madang import _core
from madang.formats.families.blueprint import describe_blueprint
from madang.formats.spec import DecoderSpec
from madang.hardware import PageGroups, kv_cache_bytes, page_groups
from madang.hardware.kv_cache import KV_PAGE_TOKENS, KV_TYPES
from madang.models import CatalogEntry, load_catalog
from madang.native.loader import decoder_shape
from madang.native.page_table import PageTable
from madang.native.pages import PagePool, pages_for

ENTRIES = load_catalog().entries
SHAPED = [entry for entry in ENTRIES.values() if entry.shape is not None]
STEP_TOKENS = 256
# Of the longest, the window is left behind, but those of whole contexts; and steps begin behind the first position of a
# page, where most is held.
TEXTS_TOKENS = (1, 2049, 6017)


class Pages:
    """A store of pages that are only counted."""

    n_pages = 0

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes

    def reserve_pages(self, n: int) -> None:
        self.n_pages = max(self.n_pages, n)

    def copy_page(self, source: int, target: int) -> None:
        raise AssertionError("nothing is shared here")

    def write_page(self, page: int, data: npt.NDArray[np.uint8]) -> None:
        raise AssertionError("nothing is loaded here")


def spec_of(entry: CatalogEntry) -> DecoderSpec:
    blueprint = entry.blueprint()
    assert blueprint is not None
    return describe_blueprint(blueprint).spec


def page_bytes_of(spec: DecoderSpec, groups: PageGroups, kv_type: str) -> int:
    shape = decoder_shape(spec)
    shape.page_groups = list(groups.layers)
    return _core.Decoder(shape, 1, "", 0.0, _core.KvType[kv_type]).page_bytes


def most_pages(groups: PageGroups, n_tokens: int) -> int:
    """That a text holds while it is read: a short step, and whole ones behind it."""
    pool, table, most = PagePool(Pages(1), 10**9), PageTable(groups), 0
    begin, end = 0, n_tokens % STEP_TOKENS
    while begin < n_tokens:
        n_columns = max(pages_for(end) - table.n_columns, 0)
        table.append(pool.allocate(n_columns * groups.n_groups) or [])
        most = max(most, pool.n_used)
        pool.release(table.leave_behind(end))
        begin, end = end, end + STEP_TOKENS
    return most


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("entry", SHAPED, ids=lambda entry: str(entry.reference))
def test_the_formula_counts_the_pages_of_the_core(entry: CatalogEntry, kv_type: str) -> None:
    spec = spec_of(entry)
    groups = page_groups(spec)
    page_bytes = page_bytes_of(spec, groups, kv_type)
    for n_tokens in TEXTS_TOKENS:
        counted = kv_cache_bytes(spec, n_tokens, kv_type=kv_type, step_tokens=STEP_TOKENS)
        assert counted == most_pages(groups, n_tokens) * page_bytes


@pytest.mark.parametrize("entry", SHAPED, ids=lambda entry: str(entry.reference))
def test_a_page_has_what_the_publishers_numbers_say(entry: CatalogEntry) -> None:
    """Of 16 positions: a key and a value of float16 of each layer's heads, as far as layers fill their groups."""
    spec = spec_of(entry)
    groups = page_groups(spec)
    assert entry.shape is not None
    config = SimpleNamespace(**entry.shape.config)
    n_layers = getattr(config, "num_hidden_layers", getattr(config, "n_layer", getattr(config, "n_layers", None)))
    assert len(groups.layers) == n_layers or n_layers is None
    layers_per_page = ceil(len(groups.layers) / groups.n_groups)
    vectors_bytes = 2 * 2 * spec.n_kv_heads * spec.head_dim
    assert spec.head_dim % 16 == 0  # else values are padded
    assert page_bytes_of(spec, groups, KV_TYPES[0]) == KV_PAGE_TOKENS * layers_per_page * vectors_bytes


def test_windows_and_mixtures_are_among_them() -> None:
    specs = {str(entry.reference): spec_of(entry) for entry in SHAPED}
    grouped = {name: page_groups(spec) for name, spec in specs.items()}
    assert len([name for name, groups in grouped.items() if groups.n_lasting and groups.n_window]) >= 5
    assert len([name for name, groups in grouped.items() if not groups.n_lasting]) >= 2  # windows in all layers
    assert any(spec.experts is not None for spec in specs.values())
    assert any(spec.n_kv_heads == 1 for spec in specs.values())
