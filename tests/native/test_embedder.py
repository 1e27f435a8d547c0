"""Vectors of texts: pooled as the model says, the same bits in any company, refused when too long."""

from __future__ import annotations

from contextlib import closing
from typing import Any, cast

import numpy as np
import pytest

from madang.core import Embedder, EngineInfo, Request, TextTokenCounter, Tracer
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest
from madang.formats.families import describe_folder
from madang.formats.spec import EmbeddingSpec, Pooling
from madang.native import NativeEmbedder
from madang.native.loader import load_decoder
from tests.native.conftest import as_plan
from tests.parity.families import FAMILIES, Built, build
from tests.parity.references import torch

CONTEXT_TOKENS = 90
TEXTS = ["a", "of several words", "가나다", "x" * 61, "of several words", "y" * 40]


class ByteTokens:
    """One token per byte, between a first and a last one."""

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        assert not parse_special  # texts are never trusted
        return [1, *(3 + byte for byte in text.encode()), 2]


@pytest.fixture(scope="module", params=["bert", "nomic-bert"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    family = next(family for family in FAMILIES if family.name == request.param)
    return build(family, tmp_path_factory.mktemp("encoder"))


def embedder(built: Built, pooling: Pooling = "mean", *, normalized: bool = True, threads: int = 1) -> NativeEmbedder:
    description = describe_folder(built.folder)
    decoder = load_decoder("tiny", description, as_plan(threads=threads))
    info = EngineInfo("native", "tiny", CONTEXT_TOKENS)
    tokenizer = cast(Any, ByteTokens())
    return NativeEmbedder(info, decoder, tokenizer, description.spec, EmbeddingSpec(pooling, normalized))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooled_like_the_reference(built: Built, pooling: Pooling, normalized: bool) -> None:
    with closing(embedder(built, pooling, normalized=normalized)) as loaded:
        result = loaded.embed(TEXTS)
    for text, vector in zip(TEXTS, result.vectors, strict=True):
        tokens = ByteTokens().encode(text, parse_special=False)
        with torch.inference_mode():
            states = built.reference(torch.tensor([tokens])).last_hidden_state[0].numpy()
        expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        if normalized:
            expected = expected / np.linalg.norm(expected)
        assert np.allclose(vector, expected, atol=1e-3 * np.abs(expected).max())
    assert result.prompt_tokens == sum(len(ByteTokens().encode(text, parse_special=False)) for text in TEXTS)


def test_company_and_threads_change_no_bit(built: Built) -> None:
    with closing(embedder(built)) as loaded, closing(embedder(built, threads=2)) as other:
        together = loaded.embed(TEXTS * 5).vectors
        alone = [loaded.embed([text]).vectors[0] for text in TEXTS]
        assert together == alone * 5
        assert other.embed(TEXTS).vectors == alone
        assert alone[1] == alone[4] != alone[0]


def test_limits(built: Built) -> None:
    with closing(embedder(built)) as loaded:
        assert isinstance(loaded, Embedder)
        assert loaded.embed([]).vectors == []
        assert len(loaded.embed(["x" * (CONTEXT_TOKENS - 2)]).vectors[0]) == describe_folder(built.folder).spec.n_embd
        with pytest.raises(ContextLengthExceeded, match=str(CONTEXT_TOKENS + 1)):
            loaded.embed(["short", "x" * (CONTEXT_TOKENS - 1)])
    loaded.close()
    with pytest.raises(EngineError, match="closed"):
        loaded.embed(["a"])


def test_texts_are_as_long_as_their_vectors_cost(built: Built) -> None:
    with closing(embedder(built)) as loaded:
        assert isinstance(loaded, TextTokenCounter)
        assert sum(loaded.count_text_tokens(TEXTS)) == loaded.embed(TEXTS).prompt_tokens
        assert loaded.count_text_tokens(["", "x" * 500]) == [2, 502]  # also of one that is too long to be read
        assert loaded.count_text_tokens([]) == []


def test_the_inside_of_an_encoder(built: Built) -> None:
    with torch.inference_mode():
        tokens = ByteTokens().encode("of several words", parse_special=False)
        output = built.reference(torch.tensor([tokens]), output_hidden_states=True, output_attentions=True)
    with closing(embedder(built)) as loaded:
        trace = loaded.trace(Request(prompt="of several words"))
        assert isinstance(loaded, Tracer)
        assert list(trace.tokens) == tokens
        for ours, theirs in ((trace.hidden, output.hidden_states), (trace.attention, output.attentions)):
            expected = torch.stack(theirs)[:, 0].numpy()
            assert ours.shape == expected.shape
            assert np.abs(ours - expected).max() < 3e-3 * max(expected.std(), 1)
        assert trace.lens_tokens.shape == (*trace.hidden.shape[:2], 0)
        for wrong in ([], [1, 10**6]):
            with pytest.raises(InvalidRequest):
                loaded.trace(wrong)
        with pytest.raises(InvalidRequest, match="no logit lens"):
            loaded.trace([1], n_top=1)
        with pytest.raises(ContextLengthExceeded):
            loaded.trace([1] * (CONTEXT_TOKENS + 1))
    with pytest.raises(EngineError, match="closed"):
        loaded.trace([1])
