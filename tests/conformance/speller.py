"""A folder with a model that spells: each token says which comes next, so it writes the alphabet, "가가…" or "🙂🙂…".

What it says is known and has characters of one to four bytes, cut between tokens; it is as small as a model can be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.checkpoints import BYTE_TOKENS, Checkpoint, TinyModel, byte_tokenizer, random_weights, write_folder

_MERGED = ("la", "Ġla")  # ordinary words have tokens of their own, and " la" is one
MODEL = TinyModel("speller", n_embd=64, n_ff=32, n_layers=1, head_dim=16, vocab_size=BYTE_TOKENS + len(_MERGED))
_FIRST_BYTE = 3
_ROUNDS = (bytes(range(ord("a"), ord("z") + 1)), "가".encode(), "🙂".encode())
_ALSO = {"라".encode()[-1]: "가".encode()[0]}  # the prompt in Korean ends with it
_LOGIT = 12.0  # of the token that comes next, against about 0


def write_speller(folder: Path) -> None:
    """Write it, with its tokenizer."""
    write_folder(Checkpoint(MODEL, folder, _weights()), folder)
    record: dict[str, Any] = json.loads(byte_tokenizer(MODEL.vocab_size))
    words = record["model"]["vocab"]
    for number, word in enumerate(_MERGED):
        words.pop(f"<unused{number}>", None)
        words[word] = BYTE_TOKENS + number
    record["model"]["merges"] = [["l", "a"], ["Ġ", "la"]]
    (folder / "tokenizer.json").write_text(json.dumps(record))


def _weights() -> dict[str, Any]:
    """A token's state is the name of its successor, which nothing in between changes."""
    rng = np.random.default_rng(0)
    weights = random_weights(MODEL, rng)
    successors = _successors()
    names = {token: place for place, token in enumerate(sorted(set(successors)))}
    state = np.zeros((MODEL.vocab_size, MODEL.n_embd), np.float32)
    head = rng.normal(0, 0.02, (MODEL.vocab_size, MODEL.n_embd)).astype(np.float32)
    for token, successor in enumerate(successors):
        state[token, names[successor]] = 1
        head[successor, names[successor]] = _LOGIT / MODEL.n_embd**0.5
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name][:] = 0
    weights["model.norm.weight"][:] = 1
    return {**weights, "model.embed_tokens.weight": state, "lm_head.weight": head}


def _successors() -> list[int]:
    """Of every token; those of no round begin the alphabet."""
    following = dict(_ALSO)
    for letters in _ROUNDS:
        following |= dict(zip(letters, letters[1:] + letters[:1], strict=True))
    by_token = [following.get(token - _FIRST_BYTE, ord("a")) for token in range(MODEL.vocab_size)]
    return [_FIRST_BYTE + byte for byte in by_token]
