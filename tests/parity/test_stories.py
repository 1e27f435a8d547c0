"""stories260K (karpathy/tinyllamas), a llama2.c checkpoint, converted here: a real model small enough for float32."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from madang import _core
from madang.formats.gguf import read_gguf
from madang.formats.tokenizers import Tokenizer, decode, tokenizer_from_gguf
from tests.parity.checkpoints import Checkpoint, TinyModel, Weights, unpermuted, write_checkpoint
from tests.parity.references import Logits, divergences, reference_greedy, reference_logits, reference_model
from tests.parity.running import greedy, open_decoder, read

gguf = pytest.importorskip("gguf")

N_TOKENS = 256
BOS = 1


class Piece(NamedTuple):
    """A token in ``tok512.bin``."""

    score: float
    text: str


def read_pieces(path: Path) -> list[Piece]:
    """The vocabulary: longest length, then per token its score, length and bytes."""
    data = path.read_bytes()
    pieces, at = [], 4
    while at < len(data):
        score, n_bytes = struct.unpack_from("<fi", data, at)
        at += 8 + n_bytes
        pieces.append(Piece(score, data[at - n_bytes : at].decode()))
    return pieces


def read_weights(path: Path) -> tuple[TinyModel, Weights]:
    """Seven numbers, then the tensors in a fixed order, each for all layers; the output is the embedding."""
    data = path.read_bytes()
    dim, n_ff, n_layers, n_heads, n_kv_heads, vocab_size, context = struct.unpack_from("<7i", data)
    model = TinyModel(
        "stories260K",
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=dim // n_heads,
        n_embd=dim,
        n_ff=n_ff,
        n_layers=n_layers,
        vocab_size=vocab_size,
        context_tokens=context,
        tied=True,
    )
    values, at = np.frombuffer(data, "<f4", offset=28), 0

    def take(*shape: int) -> Any:
        nonlocal at
        at += (n := int(np.prod(shape)))
        return values[at - n : at].reshape(shape).copy()

    kv_dim = n_kv_heads * model.head_dim
    weights = {"model.embed_tokens.weight": take(vocab_size, dim)}
    per_layer = {
        "input_layernorm": (dim,),
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (kv_dim, dim),
        "self_attn.v_proj": (kv_dim, dim),
        "self_attn.o_proj": (dim, dim),
        "post_attention_layernorm": (dim,),
        "mlp.gate_proj": (n_ff, dim),
        "mlp.down_proj": (dim, n_ff),
        "mlp.up_proj": (n_ff, dim),
    }
    for part, shape in per_layer.items():
        for layer, weight in enumerate(take(n_layers, *shape)):
            name = f"model.layers.{layer}.{part}.weight"
            weights[name] = unpermuted(name, weight, model)  # llama2.c rotates neighbours, too
    weights["model.norm.weight"] = take(dim)
    return model, weights


def add_pieces(writer: Any, pieces: list[Piece]) -> None:
    """The vocabulary as SentencePiece has it, with the word boundary that llama2.c replaced by a space."""
    types = gguf.TokenType
    specials = {"<unk>": types.UNKNOWN, "\n<s>\n": types.CONTROL, "\n</s>\n": types.CONTROL}
    is_byte = [piece.text.startswith("<0x") for piece in pieces]
    kinds = [
        specials.get(p.text, types.BYTE if byte else types.NORMAL) for p, byte in zip(pieces, is_byte, strict=True)
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([p.text.strip() if p.text in specials else p.text.replace(" ", "▁") for p in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


@pytest.fixture(scope="module")
def stories(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The model as GGUF in F32."""
    folder = shared_data / "tiny"
    model, weights = read_weights(folder / "stories260K.bin")
    add_vocabulary = partial(add_pieces, pieces=read_pieces(folder / "tok512.bin"))
    path = tmp_path_factory.mktemp("stories") / "stories260K.gguf"
    return write_checkpoint(model, path, weights=weights, edit=add_vocabulary)


@pytest.fixture(scope="module")
def tokenizer(stories: Checkpoint) -> Tokenizer:
    """Read back from the file."""
    return tokenizer_from_gguf(read_gguf(stories.path))


@pytest.fixture(scope="module")
def story(stories: Checkpoint) -> list[int]:
    """What the reference tells, unprompted, when it always takes the most likely token."""
    return reference_greedy(reference_model(stories.model, stories.weights), [BOS], N_TOKENS)


@pytest.fixture(scope="module")
def expected(stories: Checkpoint, story: list[int]) -> Logits:
    """Logits along that story."""
    return reference_logits(reference_model(stories.model, stories.weights), [BOS, *story], half_cache=True)


def test_the_story_is_one(story: list[int], tokenizer: Tokenizer) -> None:
    text = decode(tokenizer, story)
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    assert tokenizer.encode(text) == [BOS, *story]


@pytest.mark.parametrize("isa", _core.available_isas())
def test_the_same_story_on_every_instruction_set(
    stories: Checkpoint, story: list[int], expected: Logits, isa: str
) -> None:
    decoder = open_decoder(stories.path, n_threads=1, isa=isa)
    assert greedy(decoder, [BOS], N_TOKENS) == story
    actual = read(decoder, [BOS, *story])
    assert divergences(expected, actual).mean() < 1e-6
    assert np.abs(expected - actual).max() < 1e-2 * expected.std()
