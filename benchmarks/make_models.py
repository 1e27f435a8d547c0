"""Write the model files that the benchmarks run on, under `benchmarks/.models/`.

    python benchmarks/make_models.py reencode STARTER.gguf [--types Q4_0,Q8_0,F16,BF16,Q4_K_M]
    python benchmarks/make_models.py random STARTER.gguf [--shape llama-1.1b] [--types F16,Q8_0,Q4_0,Q4_1,Q4_K_M]

`reencode` dequantizes a GGUF file and quantizes it again; `random` draws weights for a larger shape and takes the
tokenizer from STARTER. Tensors are read, converted and written one at a time. Types that numpy code can't make
(K-quants) come from llama.cpp's own quantizer, in the environment that `peers.py setup` makes, from the F16 file.

Needs the `gguf` package: run it with `benchmarks/.envs/llama.cpp/bin/python`, or any Python that has it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType

from environments import BENCHMARKS, LLAMA_CPP, WORKERS

MODELS = BENCHMARKS / ".models"
# What the F16 file can be turned into without llama.cpp, with the number GGUF files carry for it.
OWN_TYPES = {
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}
EMBEDDING = "token_embd.weight"
WEIGHT_DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """A Llama decoder with tied embeddings; head size is `embedding / heads`."""

    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    context_tokens: int = 8192
    rope_base: float = 500_000.0
    norm_epsilon: float = 1e-5


SHAPES = {
    "llama-1.1b": Shape(layers=16, embedding=2048, feed_forward=8192, heads=32, kv_heads=8),
    "llama-360m": Shape(layers=32, embedding=960, feed_forward=2560, heads=15, kv_heads=5),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written: shape as numpy has it (rows, columns), and a function that makes its float32 values."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], np.ndarray]


def reencoded_tensors(reader: GGUFReader) -> Iterator[Tensor]:
    """Yield the tensors of a GGUF file; values are dequantized when asked for."""
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        yield Tensor(tensor.name, shape, partial(gguf.dequantize, tensor.data, tensor.tensor_type))


def random_tensors(shape: Shape, vocabulary_tokens: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield the tensors of `shape` with normal weights (deviation 0.02) and norms of one; a name's values are fixed."""
    head = shape.embedding // shape.heads
    matrices = {
        "attn_q": (shape.embedding, shape.embedding),
        "attn_k": (shape.kv_heads * head, shape.embedding),
        "attn_v": (shape.kv_heads * head, shape.embedding),
        "attn_output": (shape.embedding, shape.embedding),
        "ffn_gate": (shape.feed_forward, shape.embedding),
        "ffn_up": (shape.feed_forward, shape.embedding),
        "ffn_down": (shape.embedding, shape.feed_forward),
    }
    yield _random(EMBEDDING, (vocabulary_tokens, shape.embedding), (seed, 0))
    for layer in range(shape.layers):
        for number, (name, size) in enumerate(matrices.items()):
            yield _random(f"blk.{layer}.{name}.weight", size, (seed, 1 + layer, number))
        for name in ("attn_norm", "ffn_norm"):
            yield _ones(f"blk.{layer}.{name}.weight", shape.embedding)
    yield _ones("output_norm.weight", shape.embedding)


def _random(name: str, size: tuple[int, int], seed: tuple[int, ...]) -> Tensor:
    def values() -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(size, dtype=np.float32) * np.float32(WEIGHT_DEVIATION)

    return Tensor(name, size, values)


def _ones(name: str, size: int) -> Tensor:
    return Tensor(name, (size,), lambda: np.ones(size, dtype=np.float32))


def tensor_type(tensor: Tensor, file_type: str) -> GGMLQuantizationType:
    """Return the type `tensor` gets in a file of `file_type`: norms F32, embeddings of 4-bit files Q8_0."""
    if len(tensor.shape) == 1:
        return GGMLQuantizationType.F32
    # The embeddings are the output matrix too; files people download keep them at eight bits (so does the starter).
    if tensor.name == EMBEDDING and file_type.startswith("Q4"):
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType[file_type]


def copy_metadata(reader: GGUFReader, writer: GGUFWriter, prefix: str = "") -> None:
    """Copy the keys of `reader` that start with `prefix`, except those the writer or the quantization decides."""
    for key, field in reader.fields.items():
        decided = key.startswith("GGUF.") or key in ("general.architecture", "general.file_type")
        if key.startswith(prefix) and not decided:
            sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=sub_type)


def add_shape_metadata(writer: GGUFWriter, name: str, shape: Shape, vocabulary_tokens: int) -> None:
    """Write the architecture keys of a random model."""
    writer.add_name(f"{name} (random weights)")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.embedding)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(vocabulary_tokens)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_model(path: Path, file_type: str, tensors: Sequence[Tensor], metadata: Callable[[GGUFWriter], Any]) -> None:
    """Write one GGUF file, holding one tensor in memory at a time; the file appears under its name when complete."""
    unfinished = path.with_suffix(".partial")
    writer = GGUFWriter(unfinished, "llama")
    writer.add_file_type(OWN_TYPES[file_type])
    metadata(writer)
    for tensor in tensors:
        target = tensor_type(tensor, file_type)
        n_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, target)))
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), n_bytes, raw_dtype=target)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(gguf.quantize(tensor.values(), tensor_type(tensor, file_type)))
    writer.close()
    unfinished.replace(path)


def quantize_with_llama_cpp(source: Path, target: Path, file_type: str, *, pure: bool) -> None:
    """Let llama.cpp turn the F16 file `source` into `target`. Raises `RuntimeError` with its last line."""
    if not LLAMA_CPP.python.exists():
        raise RuntimeError("no llama.cpp environment yet: python benchmarks/peers.py setup --peers llama.cpp")
    unfinished = target.with_suffix(".partial")
    command = [str(LLAMA_CPP.python), str(WORKERS / "quantize_llama_cpp.py"), str(source), str(unfinished), file_type]
    done = subprocess.run([*command, *(["--pure"] if pure else [])], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["llama.cpp's quantizer failed"])[-1])
    unfinished.replace(target)


def make_files(
    options: argparse.Namespace, name: str, tensors: Sequence[Tensor], metadata: Callable[[GGUFWriter], Any]
) -> None:
    """Write every requested type that isn't there yet; F16 before K-quants because they are made from it."""
    MODELS.mkdir(exist_ok=True)
    own = [kind for kind in options.types if kind in OWN_TYPES]
    foreign = [kind for kind in options.types if kind not in OWN_TYPES]
    if foreign and "F16" not in own:
        own.append("F16")
    for kind in own + foreign:
        path = MODELS / f"{name}.{kind}{'-pure' if options.pure and kind in foreign else ''}.gguf"
        if not path.exists():
            if kind in OWN_TYPES:
                write_model(path, kind, tensors, metadata)
            else:
                quantize_with_llama_cpp(MODELS / f"{name}.F16.gguf", path, kind, pure=options.pure)
        print(f"{path.relative_to(BENCHMARKS)}  {path.stat().st_size / 1e6:,.0f} MB")


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reencode, random = verbs.add_parser("reencode"), verbs.add_parser("random")
    for verb, types in ((reencode, "Q4_0,Q8_0,F16,BF16,Q4_K_M"), (random, "F16,Q8_0,Q4_0,Q4_1,Q4_K_M")):
        verb.add_argument("starter", type=Path, help="the GGUF file to re-encode, or whose tokenizer to take")
        verb.add_argument("--types", type=lambda text: text.split(","), default=types.split(","))
        verb.add_argument("--pure", action="store_true", help="K-quants: one type for all matrices, no mix")
    random.add_argument("--shape", choices=sorted(SHAPES), default="llama-1.1b")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Write the files of one verb; return the exit status."""
    options = parse_options(arguments)
    reader = GGUFReader(options.starter)
    try:
        if options.verb == "reencode":
            name = options.starter.name.removesuffix(".gguf").rsplit(".", 1)[0]
            make_files(options, name, list(reencoded_tensors(reader)), lambda writer: copy_metadata(reader, writer))
        else:
            make_random(options, reader)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make_random(options: argparse.Namespace, reader: GGUFReader) -> None:
    """Write the random model of `options.shape` with the tokenizer of `reader`."""
    shape, vocabulary_tokens = SHAPES[options.shape], len(reader.fields["tokenizer.ggml.tokens"].data)

    def metadata(writer: GGUFWriter) -> None:
        add_shape_metadata(writer, options.shape, shape, vocabulary_tokens)
        copy_metadata(reader, writer, "tokenizer.")

    make_files(options, f"random-{options.shape}", list(random_tensors(shape, vocabulary_tokens)), metadata)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
