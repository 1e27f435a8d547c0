"""Write the float models that quantizers are measured on.

    python benchmarks/references.py rotated STARTER.gguf TARGET.gguf [--type F16]
    python benchmarks/references.py stories FOLDER TARGET.gguf
    python benchmarks/train_reference.py TARGET.gguf

The starter's weights lie on Q4_1's grid, where types that contain it lose nothing. `rotated` is the same function off
the grid: RMSNorm weights go into the matrices that read the norm, a random orthogonal matrix turns the residual stream,
and another one per key-value head what is added up of the values. Its weights are more Gaussian than natural ones, and
it has a head of its own. `stories` is llama2.c's stories260K (tinyllamas, MIT): a real model, tiny, in float32.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType, TokenType

from make_models import EMBEDDING, copy_metadata

SEED = 5
FILE_TYPES = {"F32": LlamaFileType.ALL_F32, "F16": LlamaFileType.MOSTLY_F16, "BF16": LlamaFileType.MOSTLY_BF16}
Floats = npt.NDArray[np.float64]
Values = Callable[[str], Floats]


@dataclass(frozen=True)
class Heads:
    """Attention's dimensions."""

    n_heads: int
    n_kv_heads: int
    head_dim: int


def orthogonal(n: int, draw: np.random.Generator) -> Floats:
    """A random rotation, uniform over all (QR of a Gaussian matrix, signs fixed; Mezzadri 2007)."""
    q, r = np.linalg.qr(draw.standard_normal((n, n)))
    turned: Floats = q * np.sign(np.diagonal(r))
    return turned


def rotated_tensors(names: Sequence[str], values: Values, heads: Heads) -> Iterator[tuple[str, Floats]]:
    """The tensors of a Llama of the same function; `values` gives those of a name in float64."""
    draw = np.random.default_rng(SEED)
    embedding = values(EMBEDDING)
    turn = orthogonal(embedding.shape[1], draw)
    yield EMBEDDING, embedding @ turn
    head = values("output.weight") if "output.weight" in names else embedding
    yield "output.weight", (head * values("output_norm.weight")) @ turn
    yield "output_norm.weight", np.ones(embedding.shape[1])
    n_layers = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blk."))
    for layer in range(n_layers):
        yield from _rotated_layer(
            lambda name, at=f"blk.{layer}.": values(at + name), turn, heads, draw, f"blk.{layer}."
        )


def _rotated_layer(
    values: Values, turn: Floats, heads: Heads, draw: np.random.Generator, at: str
) -> Iterator[tuple[str, Floats]]:
    def reader(name: str, norm: str) -> Floats:
        return (values(name) * values(norm)) @ turn

    turns = [orthogonal(heads.head_dim, draw) for _ in range(heads.n_kv_heads)]
    value = reader("attn_v.weight", "attn_norm.weight").reshape(heads.n_kv_heads, heads.head_dim, -1)
    output = (turn.T @ values("attn_output.weight")).reshape(-1, heads.n_heads, heads.head_dim)
    shared_by = heads.n_heads // heads.n_kv_heads
    yield at + "attn_v.weight", np.stack([t.T @ v for t, v in zip(turns, value, strict=True)]).reshape(-1, len(turn))
    parts = [output[:, head] @ turns[head // shared_by] for head in range(heads.n_heads)]
    yield at + "attn_output.weight", np.stack(parts, 1).reshape(len(turn), -1)
    for name in ("attn_q.weight", "attn_k.weight"):
        yield at + name, reader(name, "attn_norm.weight")
    for name in ("ffn_gate.weight", "ffn_up.weight"):
        yield at + name, reader(name, "ffn_norm.weight")
    yield at + "ffn_down.weight", turn.T @ values("ffn_down.weight")
    for name in ("attn_norm.weight", "ffn_norm.weight"):
        yield at + name, np.ones(len(turn))


def shuffled_tensors(names: Sequence[str], values: Values, heads: Heads, seed: int) -> Iterator[tuple[str, Floats]]:
    """The same function with its columns in another order: other blocks, so other luck in rounding them.

    Residual stream, hidden units and, within a head, values change places, and what reads or writes them follows.
    """
    draw = np.random.default_rng(seed)
    n_embd, n_ff = values(EMBEDDING).shape[1], len(values("blk.0.ffn_up.weight"))
    stream, units = draw.permutation(n_embd), draw.permutation(n_ff)
    within = draw.permutation(heads.head_dim)

    def in_heads(n_heads: int) -> npt.NDArray[np.int64]:
        return np.concatenate([head * heads.head_dim + within for head in range(n_heads)])

    columns = {"attn_output": in_heads(heads.n_heads), "ffn_down": units}
    rows = {"attn_v": in_heads(heads.n_kv_heads), "ffn_gate": units, "ffn_up": units}
    for name in names:
        kind, own = name.split(".")[-2], values(name)
        if own.ndim == 1:
            yield name, own[stream]
            continue
        row = stream if kind in columns else rows.get(kind, slice(None))
        yield name, own[row][:, columns.get(kind, stream)]


def write_rotated(source: Path, target: Path, kind: str) -> None:
    """The starter (or another Llama in GGUF), rotated."""
    _write_changed(source, target, kind, rotated_tensors)


def write_shuffled(source: Path, target: Path, kind: str, seed: int) -> None:
    """A Llama in GGUF, with its columns in another order."""
    _write_changed(source, target, kind, lambda *parts: shuffled_tensors(*parts, seed))


def _write_changed(
    source: Path,
    target: Path,
    kind: str,
    change: Callable[[Sequence[str], Values, Heads], Iterator[tuple[str, Floats]]],
) -> None:
    reader = GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def values(name: str) -> Floats:
        return gguf.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float64)

    n_heads, n_kv_heads = (
        int(reader.fields[f"llama.attention.{name}"].contents()) for name in ("head_count", "head_count_kv")
    )
    heads = Heads(n_heads, n_kv_heads, int(tensors[EMBEDDING].shape[0]) // n_heads)

    def metadata(writer: GGUFWriter) -> None:
        copy_metadata(reader, writer)

    write(target, kind, metadata, change(list(tensors), values, heads))


def write(
    target: Path, kind: str, metadata: Callable[[GGUFWriter], Any], tensors: Iterator[tuple[str, npt.NDArray[Any]]]
) -> None:
    """Vectors in F32, matrices in `kind`; the file appears under its name when complete."""
    unfinished = target.with_suffix(".partial")
    writer = GGUFWriter(unfinished, "llama", use_temp_file=True)
    writer.add_file_type(FILE_TYPES[kind])
    metadata(writer)
    for name, values in tensors:
        own = GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        stored = np.ascontiguousarray(gguf.quantize(values.astype(np.float32), own))
        writer.add_tensor(name, stored, raw_shape=stored.shape, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(target)


# ---- llama2.c


def write_stories(folder: Path, target: Path) -> None:
    """llama2.c's checkpoint (version 0) and tokenizer in `folder`, as its run.c reads them."""
    data = (folder / "stories260K.bin").read_bytes()
    n_embd, n_ff, n_layers, n_heads, n_kv_heads, n_vocab, n_ctx = struct.unpack_from("<7i", data)
    words = read_words(folder / "tok512.bin", abs(n_vocab))

    def metadata(writer: GGUFWriter) -> None:
        writer.add_name("stories260K")
        writer.add_context_length(n_ctx)
        writer.add_embedding_length(n_embd)
        writer.add_block_count(n_layers)
        writer.add_feed_forward_length(n_ff)
        writer.add_head_count(n_heads)
        writer.add_head_count_kv(n_kv_heads)
        writer.add_rope_dimension_count(n_embd // n_heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(len(words))
        writer.add_tokenizer_model("llama")
        writer.add_token_list([text for text, _ in words])
        writer.add_token_scores([score for _, score in words])
        writer.add_token_types([_token_type(number, text) for number, (text, _) in enumerate(words)])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)

    shape = {"n_embd": n_embd, "n_ff": n_ff, "n_layers": n_layers, "n_kv": n_embd // n_heads * n_kv_heads}
    write(target, "F32", metadata, stories_tensors(data, len(words), shape))


def read_words(path: Path, n: int) -> list[tuple[str, float]]:
    """The vocabulary in SentencePiece's spelling, and scores."""
    data, at, words = path.read_bytes(), 4, []
    for number in range(n):
        score, length = struct.unpack_from("<fi", data, at)
        text = data[at + 8 : at + 8 + length].decode()
        at += 8 + length
        words.append((("<unk>", "<s>", "</s>")[number] if number < 3 else text.replace(" ", "▁"), score))
    return words


def _token_type(number: int, text: str) -> TokenType:
    if number < 3:
        return (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL)[number]
    return TokenType.BYTE if number < 259 and text.startswith("<0x") else TokenType.NORMAL


def stories_tensors(
    data: bytes, n_vocab: int, shape: Mapping[str, int]
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """In the order of the file: each kind for all layers at once."""
    n, n_ff, n_layers, n_kv = shape["n_embd"], shape["n_ff"], shape["n_layers"], shape["n_kv"]
    floats, at = np.frombuffer(data, "<f4", offset=28), 0

    def take(*size: int) -> npt.NDArray[np.float32]:
        nonlocal at
        at += int(np.prod(size))
        return floats[at - int(np.prod(size)) : at].reshape(size)

    yield EMBEDDING, take(n_vocab, n)
    kinds = {
        "attn_norm": (n,),
        "attn_q": (n, n),
        "attn_k": (n_kv, n),
        "attn_v": (n_kv, n),
        "attn_output": (n, n),
        "ffn_norm": (n,),
        "ffn_gate": (n_ff, n),
        "ffn_down": (n, n_ff),
        "ffn_up": (n_ff, n),
    }
    for name, size in kinds.items():
        for layer, values in enumerate(take(n_layers, *size)):
            yield f"blk.{layer}.{name}.weight", values
    yield "output_norm.weight", take(n)


def main(arguments: Sequence[str]) -> int:
    """Write one model; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, help_text in (("rotated", "a GGUF file of a Llama"), ("stories", "the folder of stories260K.bin")):
        own = verbs.add_parser(verb)
        own.add_argument("source", type=Path, help=help_text)
        own.add_argument("target", type=Path)
        if verb == "rotated":
            own.add_argument("--type", choices=FILE_TYPES, default="F16")
    options = parser.parse_args(arguments)
    if options.verb == "rotated":
        write_rotated(options.source, options.target, options.type)
    else:
        write_stories(options.source, options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
