"""Vectors by transformers: the native engine's for families that both know, and those of other families."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from madang.core import Embedder
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest
from madang.core.settings import load_settings
from madang.runtime import open_embedder, open_model
from tests.parity.checkpoints import byte_tokenizer

torch = pytest.importorskip("torch", reason="the transformers engine needs torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["a short one", "마당", "a rather longer text about many things " * 6, "a short one", ""]


def opened(path: Path, home: Path, **given: str) -> Embedder:
    return open_embedder(f"file:{path}", load_settings(given, {"MADANG_HOME": str(home)}))


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family that native does not know, with random weights and the mean as its vector."""
    path = tmp_path_factory.mktemp("mpnet") / "mpnet"
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=259,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    transformers.MPNetModel(config, add_pooling_layer=False).save_pretrained(path)
    (path / "tokenizer.json").write_text(byte_tokenizer(259))
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in ("Transformer", "Pooling")]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "Pooling").mkdir()
    (path / "Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return path


def test_the_vectors_are_the_native_engine_s(minilm_folder: Path, tmp_path: Path) -> None:
    found = []
    for engine in ("native", "transformers"):
        with closing(opened(minilm_folder, tmp_path, engine=engine)) as embedder:
            found.append(embedder.embed(TEXTS))
    ours, theirs = found
    assert theirs.prompt_tokens == ours.prompt_tokens
    assert np.allclose(theirs.vectors, ours.vectors, atol=2e-3)


def test_another_family_runs_here_and_a_text_s_vector_does_not_depend_on_the_others(
    mpnet: Path, tmp_path: Path
) -> None:
    with closing(opened(mpnet, tmp_path)) as embedder:
        assert (embedder.info.engine, embedder.info.context_tokens) == ("transformers", 64)
        texts = ["abc", "a text", "longer than both of them"]
        together = embedder.embed(texts).vectors
        alone = [embedder.embed([text]).vectors[0] for text in texts]
        assert np.shape(together) == (3, 32)
        assert np.allclose(together, alone, atol=1e-5)
        assert not np.allclose(together[0], together[1], atol=1e-2)
        assert embedder.embed([]).vectors == []


def test_what_cannot_be_done_is_refused(mpnet: Path, tmp_path: Path) -> None:
    embedder = opened(mpnet, tmp_path)
    with pytest.raises(ContextLengthExceeded) as caught:
        embedder.embed(["short", "x" * 100])
    assert caught.value.n_ctx == 64
    assert len(embedder.embed(["x" * 63]).vectors) == 1
    embedder.close()
    embedder.close()
    with pytest.raises(EngineError, match="closed"):
        embedder.embed(["a"])
    with pytest.raises(InvalidRequest, match="makes vectors"):
        open_model(f"file:{mpnet}", load_settings({}, {"MADANG_HOME": str(tmp_path)}))
