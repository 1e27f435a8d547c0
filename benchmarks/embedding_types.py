"""What each tensor type does to the vectors of an embedding model: 1 - cosine to those of the float32 weights.

    python benchmarks/embedding_types.py FOLDER [--texts 200]

FOLDER is all-MiniLM-L6-v2's (`madang pull all-minilm:l6`). Every matrix is quantized to the type and back, where its
blocks divide the rows (384 and 1536 columns); vectors, and matrices that a type does not fit, stay in float32. Texts
are the sentences of the parallel corpus in English, which are no part of any choice.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from machine import describe_checkout, describe_machine
from madang.core.settings import load_settings
from madang.formats.tensors import TensorType
from madang.quantization.encoding import dequantize, quantize
from madang.runtime import open_embedder
from measurement import REPOSITORY
from own_engine import DATA
from peers import free_result_path, recorded_command, save

TYPES = ("F16", "Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q5_K", "IQ4_NL", "Q4_1", "Q4_0", "Q4_K", "Q3_K", "Q2_K")


def read_texts(n: int) -> list[str]:
    """The first sentences."""
    lines = (DATA / "parallel" / "en_pud.conllu").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")][:n]


def vectors_of(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Normalized, [texts, n_embd]."""
    embedder = open_embedder(f"file:{folder}", load_settings({"engine": "native"}, {}))
    try:
        return np.array(embedder.embed(texts).vectors, np.float64)
    finally:
        embedder.close()


def write_as(folder: Path, target: Path, kind: TensorType) -> int:
    """The same model with its matrices as that type leaves them; returns how many there were."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    weights, n_changed = load_file(folder / "model.safetensors"), 0
    for name, values in weights.items():
        if values.dtype == np.float32 and values.ndim == 2 and values.shape[1] % kind.block_elements == 0:
            weights[name] = dequantize(quantize(values, kind, n_threads=1), kind)
            n_changed += 1
    save_file(weights, target / "model.safetensors")
    return n_changed


def main(arguments: Sequence[str]) -> int:
    """Measure all types; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="FOLDER")
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args(arguments)
    if not (options.model / "model.safetensors").is_file():
        parser.error(f"no model.safetensors in {options.model}")
    texts = read_texts(options.texts)
    reference, rows = vectors_of(options.model, texts), []
    for name in TYPES:
        with tempfile.TemporaryDirectory() as folder:
            n_changed = write_as(options.model, Path(folder) / "model", TensorType[name])
            errors = 1 - (vectors_of(Path(folder) / "model", texts) * reference).sum(axis=1)
        row: dict[str, Any] = {"type": name, "matrices": n_changed, "bits": TensorType[name].bits_per_element}
        row |= {"mean": float(errors.mean()), "p99": float(np.quantile(errors, 0.99)), "max": float(errors.max())}
        rows.append(row)
        print(f"{name:8} {n_changed:3} matrices  mean {row['mean']:.2e}  p99 {row['p99']:.2e}", flush=True)
    document = {
        "command": recorded_command(arguments).replace("peers.py", "embedding_types.py"),
        "date": datetime.date.today().isoformat(),
        "checkout": describe_checkout(REPOSITORY),
        "machine": describe_machine(),
        "texts": len(texts),
        "cosine_errors": rows,
    }
    path = free_result_path("embedding-types")
    save(document, path)
    print(f"wrote benchmarks/results/{path.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
