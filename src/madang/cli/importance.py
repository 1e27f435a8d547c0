"""``madang importance``: what an error in each column of a model's matrices costs, measured on a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madang.cli import options
from madang.cli.console import data, data_json
from madang.cli.making import n_threads
from madang.cli.sizing import Teller, read_text
from madang.core.errors import UnsupportedModel

Text = Annotated[Path, typer.Argument(metavar="TEXT", help="A text file of the kind that the model is for.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="A GGUF file, as llama.cpp's imatrix has.")
]
Chunks = Annotated[
    int, typer.Option("--chunks", metavar="N", min=1, help="Pieces of 512 tokens to read, spread over the text.")
]


def importance(
    ctx: typer.Context,
    model: options.Model,
    text: Text,
    *,
    output: Output,
    chunks: Chunks = 64,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Measure which weights matter, for 'madang quantize --importance' and llama.cpp's quantizer."""
    from madang.models import Store
    from madang.native import MutableModel
    from madang.quantization.divergence import CHUNK_TOKENS, cut
    from madang.quantization.importance import measure_importance, write_importance
    from madang.runtime import find_files

    settings = options.settings_of(ctx, threads=threads)
    files = find_files(model, Store(settings.home))
    if files.format != "gguf":
        raise UnsupportedModel("folders in 'madang importance'", hint="Convert it first: madang convert SRC DST.gguf")
    words = read_text(text)
    loaded = MutableModel(files.path, n_threads(settings))
    pieces = cut(loaded.tokenize(words), CHUNK_TOKENS, at_most=chunks)
    teller = Teller()
    found = measure_importance(
        loaded, pieces, dataset=text.name, progress=lambda done, total: teller("reading", done, total)
    )
    write_importance(output, found)
    if as_json:
        data_json({"path": str(output), "tensors": len(found.mean_squares), "chunks": len(pieces)})
    else:
        data(f"{output}  {len(found.mean_squares)} tensors, {len(pieces)} chunks of {CHUNK_TOKENS} tokens")
