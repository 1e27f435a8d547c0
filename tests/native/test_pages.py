"""Pages of the cache as things: copied, taken out and put back."""

from __future__ import annotations

import numpy as np
import pytest

from madang import _core
from tests.native.bare import BareModel, bare_decoder
from tests.parity.running import PAGE_TOKENS, read

MODEL = BareModel(n_heads=6, n_kv_heads=2, windows=(0, 20), head_dim=8)
TEXT = np.random.default_rng(0).integers(0, MODEL.vocab_size, 2 * PAGE_TOKENS + 5).tolist()


@pytest.fixture(params=["f16", "int8"])
def kv_type(request: pytest.FixtureRequest) -> str:
    kv_type: str = request.param
    return kv_type


@pytest.fixture
def decoder(kv_type: str) -> _core.Decoder:
    decoder = bare_decoder(MODEL, kv_type=kv_type)
    decoder.reserve_pages(6)
    return decoder


def test_a_copied_page_serves_like_its_original(decoder: _core.Decoder) -> None:
    whole = read(decoder, TEXT, pages=[0, 1, 2])
    for source, target in enumerate([5, 4, 3]):
        decoder.copy_page(source, target)
    read(decoder, TEXT[::-1], pages=[0, 1, 2])
    assert np.array_equal(read(decoder, TEXT[20:], start=20, pages=[5, 4, 3]), whole[20:])


def test_a_saved_page_serves_in_another_decoder(decoder: _core.Decoder, kv_type: str) -> None:
    whole = read(decoder, TEXT)
    saved = [decoder.read_page(page) for page in range(3)]
    other = bare_decoder(MODEL, kv_type=kv_type)
    other.reserve_pages(6)
    for page, data in zip((4, 1, 0), saved, strict=True):
        assert data.shape == (decoder.page_bytes,)
        other.write_page(page, data)
    assert np.array_equal(read(other, TEXT[35:], start=35, pages=[4, 1, 0]), whole[35:])


def test_what_is_no_page_is_refused(decoder: _core.Decoder) -> None:
    n_pages = decoder.n_pages
    for page in (-1, n_pages):
        with pytest.raises(ValueError, match=f"page {page} does not exist"):
            decoder.copy_page(page, 0)
        with pytest.raises(ValueError, match=f"page {page} does not exist"):
            decoder.copy_page(0, page)
        with pytest.raises(ValueError, match=f"page {page} does not exist"):
            decoder.read_page(page)
        with pytest.raises(ValueError, match=f"page {page} does not exist"):
            decoder.write_page(page, np.zeros(decoder.page_bytes, np.uint8))
    for size in (0, decoder.page_bytes - 1, decoder.page_bytes + 1):
        with pytest.raises(ValueError, match=f"has {decoder.page_bytes} bytes, not {size}"):
            decoder.write_page(0, np.zeros(size, np.uint8))
