"""Our quantizers beside llama.cpp's, type by type, with the same importance: weighted error, time, and divergence.

    python benchmarks/quantizers.py REFERENCE.gguf [--types Q4_0,Q4_K] [--texts "shakespeare,code"] [--chunks 16]
                                    [--shuffles 6] [--error-only] [--name NAME]

REFERENCE is a float model of references.py or train_reference.py: never the starter itself, whose weights lie on Q4_1's
grid. The importance is measured on the validation part of wikitext-2, the divergence on its test part or the --texts
that are named (texts.py): each file has every matrix that the type's blocks divide in that type, and all others as in
the reference. llama.cpp's quantizers are those of the library in .envs/llama.cpp (`peers.py --setup`).

How a block is rounded is luck as well as skill, and intervals over chunks of text do not see that: with --shuffles, the
same function is quantized so many times with its columns in other orders, which makes other blocks (references.py).
"""

from __future__ import annotations

import argparse
import ctypes
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from environments import ENVIRONMENTS
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.quantization.divergence import Divergence, KeptLogits, cut, measure, reduction
from madang.quantization.encoding import BLOCK_TYPES, dequantize, quantize
from madang.quantization.importance import measure_importance
from madang.quantization.matrices import QuantizableMatrix, quantizable_matrices
from own_engine import results
from references import write_shuffled
from texts import TEXTS

Floats = npt.NDArray[np.float32]
Octets = npt.NDArray[np.uint8]
Encode = Callable[[Floats, TensorType, Floats | None], Octets]
N_IMPORTANCE_CHUNKS = 16
# Of Student's t, by degrees of freedom: 95 % lie within.
T_95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201}


class LlamaCpp:
    """The quantizers of ggml's library, called on rows in memory."""

    def __init__(self) -> None:
        library = next(ENVIRONMENTS.glob("llama.cpp/lib/python*/site-packages/llama_cpp/lib/libggml-base.so"))
        self._quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            *[ctypes.c_int64] * 3,
            ctypes.c_void_p,
        ]

    def __call__(self, values: Floats, tensor_type: TensorType, importance: Floats | None) -> Octets:
        """Rows of ``values`` in that type, on one thread."""
        n_rows, n_columns = values.shape
        blocks = np.zeros((n_rows, n_columns // tensor_type.block_elements * tensor_type.block_bytes), np.uint8)
        weights = None if importance is None else importance.ctypes.data
        self._quantize(int(tensor_type), values.ctypes.data, blocks.ctypes.data, 0, n_rows, n_columns, weights)
        return blocks


def ours(values: Floats, tensor_type: TensorType, importance: Floats | None) -> Octets:
    """The same of madang's."""
    return quantize(values, tensor_type, importance=importance, n_threads=1)


@dataclass
class Comparison:
    """Of one type: what both quantizers did to the matrices of one model."""

    weighted_errors: list[tuple[float, float]] = field(default_factory=list)
    plain_errors: list[tuple[float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    n_weights: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ratios are ours over theirs, of squared errors summed over a matrix."""
        return {
            "matrices": len(self.weighted_errors),
            "weighted_error_ratio": _ratios(self.weighted_errors),
            "error_ratio_without_importance": _ratios(self.plain_errors),
            "ns_per_weight": {
                "ours": self.seconds[0] / self.n_weights * 1e9,
                "llama.cpp": self.seconds[1] / self.n_weights * 1e9,
            },
        }


def _ratios(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    ratios = [own / their for own, their in pairs if their > 0]
    return {"geometric_mean": exp(sum(map(log, ratios)) / len(ratios)), "worst": max(ratios)}


def fitting(matrices: Sequence[QuantizableMatrix], tensor_type: TensorType) -> list[QuantizableMatrix]:
    """Those whose rows the type's blocks divide."""
    return [matrix for matrix in matrices if matrix.n_columns % tensor_type.block_elements == 0]


def compare_errors(
    matrices: Sequence[QuantizableMatrix], tensor_type: TensorType, importance: Mapping[str, Floats], theirs: Encode
) -> Comparison:
    """With importance and without."""
    found = Comparison()
    for matrix in matrices:
        values, weights = np.ascontiguousarray(matrix.read()), importance.get(matrix.name)
        found.n_weights += values.size
        errors = []
        for number, encode in enumerate((ours, theirs)):
            started = time.perf_counter()
            data = encode(values, tensor_type, weights)
            found.seconds[number] += time.perf_counter() - started
            errors.append(_squared_error(values, data, tensor_type, weights))
        found.weighted_errors.append((errors[0], errors[1]))
        plain = [
            _squared_error(values, encode(values, tensor_type, None), tensor_type, None) for encode in (ours, theirs)
        ]
        found.plain_errors.append((plain[0], plain[1]))
    return found


def _squared_error(values: Floats, data: Octets, tensor_type: TensorType, weights: Floats | None) -> float:
    error = np.square(values - dequantize(data, tensor_type), dtype=np.float32)
    columns = error.sum(axis=0, dtype=np.float64)
    return float(columns.sum() if weights is None else columns @ weights)


@contextmanager
def exchanged(
    model: MutableModel,
    matrices: Sequence[QuantizableMatrix],
    tensor_type: TensorType,
    importance: Mapping[str, Floats],
    encode: Encode,
) -> Iterator[None]:
    """While it lasts, the model has these matrices in that type."""
    for matrix in matrices:
        data = encode(np.ascontiguousarray(matrix.read()), tensor_type, importance.get(matrix.name))
        model.exchange(matrix.exchange(tensor_type, data))
    try:
        yield
    finally:
        for matrix in matrices:
            values = matrix.read().view(np.uint8)
            model.exchange(matrix.exchange(TensorType.F32, values))


@dataclass(frozen=True)
class Measured:
    """A text in chunks, and what the reference makes of it."""

    chunks: Sequence[Sequence[int]]
    reference: KeptLogits


def compare_divergence(
    model: MutableModel, texts: Mapping[str, Measured], pair: Sequence[Callable[[], Any]]
) -> dict[str, Any]:
    """Of both quantizers' models from the reference, by text; the interval is of 1 - ours / theirs."""
    found: list[dict[str, Divergence]] = []
    for put in pair:
        with put():
            found.append({name: measure(text.reference, model, text.chunks) for name, text in texts.items()})
    return {name: _compared(found[0][name], found[1][name]) for name in texts}


def _compared(own: Divergence, their: Divergence) -> dict[str, Any]:
    return {
        "kl_ratio": own.mean / their.mean,
        "reduction": reduction(own, their).to_dict(),
        "ours": own.to_dict(),
        "llama.cpp": their.to_dict(),
    }


def main() -> int:
    """Compare, print a line per type, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="REFERENCE")
    parser.add_argument("--types", default=",".join(tensor_type.name for tensor_type in BLOCK_TYPES))
    parser.add_argument("--texts", default="wikitext-2 test", help=", ".join(TEXTS))
    parser.add_argument("--chunks", type=int, default=16, help="of each text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shuffles", type=int, default=0)
    parser.add_argument("--error-only", action="store_true")
    parser.add_argument("--name", default="quantizers", help="of the result's file")
    options = parser.parse_args()
    arguments = [argument if argument != str(options.model) else options.model.name for argument in sys.argv[1:]]
    options.command, options.rounds = shlex.join(["python", "benchmarks/quantizers.py", *arguments]), 1
    with results(options) as document:
        document["types"] = compare(options) if not options.shuffles else compare_shuffled(options)
    return 0


def compare_shuffled(options: argparse.Namespace) -> dict[str, Any]:
    """By type and text: the ratio of KL of each order, their geometric mean, and its interval (Student's t)."""
    ratios: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.shuffles):
            shuffled = Path(folder) / "shuffled.gguf"
            write_shuffled(options.model, shuffled, "F32", seed)
            for name, row in compare(argparse.Namespace(**{**vars(options), "model": shuffled})).items():
                for text, found in row["divergence"].items():
                    ratios.setdefault(name, {}).setdefault(text, []).append(found["kl_ratio"])
    rows = {name: {text: _mean_ratio(own) for text, own in texts.items()} for name, texts in ratios.items()}
    for name, texts in rows.items():
        print(
            name,
            {
                text: (f"{own['kl_ratio']:.3f}", f"{own['low']:.3f}", f"{own['high']:.3f}")
                for text, own in texts.items()
            },
        )
    return rows


def _mean_ratio(ratios: Sequence[float]) -> dict[str, Any]:
    logs = np.log(ratios)
    half = T_95[len(logs) - 1] * float(logs.std(ddof=1)) / sqrt(len(logs))
    mean = float(logs.mean())
    return {"kl_ratio": exp(mean), "low": exp(mean - half), "high": exp(mean + half), "of_shuffles": list(ratios)}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """A row per type that fits any matrix."""
    model = MutableModel(options.model, options.threads)
    matrices = quantizable_matrices(read_gguf(options.model), model.description)
    importance = measure_importance(model, chunks_of(model, "wikitext-2 valid", N_IMPORTANCE_CHUNKS)).mean_squares
    theirs = LlamaCpp()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = [] if options.error_only else options.texts.split(",")
        texts = {name: read_reference(model, name, options.chunks, Path(folder)) for name in names}
        for tensor_type in map(TensorType.__getitem__, options.types.split(",")):
            fit = fitting(matrices, tensor_type)
            if not fit:
                continue
            row = compare_errors(fit, tensor_type, importance, theirs).to_dict()
            if texts:
                files = [partial(exchanged, model, fit, tensor_type, importance, encode) for encode in (ours, theirs)]
                row["divergence"] = compare_divergence(model, texts, files)
            rows[tensor_type.name] = row
            print(_line(tensor_type.name, row), flush=True)
    return rows


def read_reference(model: MutableModel, name: str, n_chunks: int, folder: Path) -> Measured:
    """While the model is still the reference."""
    chunks = chunks_of(model, name, n_chunks)
    return Measured(chunks, KeptLogits(folder / name, model, chunks, model.description.spec.vocab_size))


def chunks_of(model: MutableModel, name: str, at_most: int) -> list[list[int]]:
    """Of a text of texts.py."""
    return cut(model.tokenize(TEXTS[name]()), at_most=at_most)


def _line(name: str, row: Mapping[str, Any]) -> str:
    error, time_ns = row["weighted_error_ratio"], row["ns_per_weight"]
    line = f"{name:7} error {error['geometric_mean']:.4f}, worst {error['worst']:.4f}"
    line += f"   {time_ns['ours']:.0f} ns, llama.cpp {time_ns['llama.cpp']:.0f} ns"
    for name, found in row.get("divergence", {}).items():
        interval = found["reduction"]
        line += f"   {name} {found['kl_ratio']:.4f} [{1 - interval['high']:.4f}, {1 - interval['low']:.4f}]"
    return line


if __name__ == "__main__":
    sys.exit(main())
