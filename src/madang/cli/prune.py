"""``madang prune``: a model with fewer layers, FFN columns or heads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.certifying import CHUNK_TOKENS, Made
from madang.cli.making import n_threads
from madang.cli.sizing import Teller, read_text
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.training.pruning import Cut

Folder = Annotated[str, typer.Argument(metavar="SRC", help="A model as a Hugging Face folder.")]
Target = Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")]
Text = Annotated[
    Path, typer.Option("--text", metavar="FILE", help="Text to measure on, of the kind that the model is for.")
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Another text, for the certificate. Unset: no certificate."),
]
Layers = Annotated[int | None, typer.Option("--layers", metavar="N", min=1, help="Layers to keep.")]
Ffn = Annotated[int | None, typer.Option("--ffn", metavar="N", min=1, help="Columns to keep of each layer's FFN.")]
Heads = Annotated[int | None, typer.Option("--heads", metavar="N", min=1, help="Heads to keep in each layer.")]
KvHeads = Annotated[
    int | None, typer.Option("--kv-heads", metavar="N", min=1, help="Key-value heads to keep. Unset: all.")
]
Chunks = Annotated[
    int, typer.Option("--chunks", metavar="N", min=1, max=4096, help="Pieces of 256 tokens to measure on.")
]


def prune(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    source: Folder,
    target: Target,
    *,
    text: Text,
    layers: Layers = None,
    ffn: Ffn = None,
    heads: Heads = None,
    kv_heads: KvHeads = None,
    report: Report = None,
    chunks: Chunks = 32,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Leave out what changes least: layers by their influence, FFN columns and heads by what they hand on.

    What is lost comes back in part with 'madang distill DST HEALED --teacher SRC'.
    """
    from madang.training.folders import require_new
    from madang.training.pruning import write_cut

    begun_s = time.monotonic()
    settings = options.settings_of(ctx, threads=threads)
    if layers is None and ffn is None and heads is None and kv_heads is None:
        raise InvalidRequest("Nothing is to be left out.", hint="Give --layers, --ffn, --heads or --kv-heads.")
    require_new(target)
    folder = folder_of(source, settings)
    words, report_words = read_text(text), None if report is None else read_text(report)
    measured = _Measured(folder, words, chunks, n_threads(settings))
    cut = measured.cut(layers, ffn, (heads, kv_heads))
    size_bytes = write_cut(folder, target, cut)
    document: dict[str, Any] = {"path": str(target.absolute()), "size_bytes": size_bytes, **measured.told}
    made = Made("prune", [source], document, begun_s)
    if report_words is not None:
        made.certify({"before": folder, "pruned": target}, report_words, n_threads(settings), measured.told)
    made.keep(settings)
    made.tell(as_json=as_json)


def folder_of(reference: str, settings: Settings) -> Path:
    """The folder of a model. Raises InvalidRequest for a file, ModelNotFound."""
    from madang.models import Store
    from madang.runtime import find_files

    files = find_files(reference, Store(settings.home))
    if files.format != "huggingface":
        raise InvalidRequest(
            f"{files.name} is a GGUF file; this works on the weights of a Hugging Face folder.",
            hint=f"Make one with: madang convert {reference} FOLDER --dtype f32",
        )
    return files.path


class _Measured:
    """A model and what a text says of its parts; each is measured when it is asked for."""

    def __init__(self, folder: Path, words: str, chunks: int, threads: int) -> None:
        self._folder, self._words, self._chunks, self._threads = folder, words, chunks, threads
        self.told: dict[str, Any] = {}

    def cut(self, layers: int | None, ffn: int | None, heads: tuple[int | None, int | None]) -> Cut:
        """What to keep; why stands in ``told``."""
        from madang.training.pruning import Cut, least_influential, strongest_columns, strongest_heads

        kept_layers = columns = kept_heads = None
        if layers is not None:
            influence = self._influence()
            kept_layers = least_influential(influence, layers)
            left_out = [number for number in range(len(influence)) if number not in kept_layers]
            self.told |= {"block_influence": influence.tolist(), "layers_left_out": left_out}
        if ffn is not None or heads != (None, None):
            widths = self._widths()
            if ffn is not None:
                columns = strongest_columns(widths, ffn)
                self.told["ffn_columns"] = ffn
            if heads != (None, None):
                shared = widths.heads.shape[1] // widths.n_kv_heads
                n_kv = widths.n_kv_heads if heads[1] is None else heads[1]
                n_heads = shared * n_kv if heads[0] is None else heads[0]
                kept_heads = strongest_heads(widths, n_heads, n_kv)
                self.told |= {"heads": n_heads, "kv_heads": n_kv}
        return Cut(kept_layers, columns, kept_heads)

    def _influence(self) -> Any:
        from madang.core.engine import LogitSource, Tracer
        from madang.core.errors import UnsupportedModel
        from madang.core.settings import load_settings
        from madang.quantization.divergence import cut
        from madang.runtime import open_model
        from madang.training.pruning import block_influence

        model = open_model(str(self._folder.absolute()), load_settings({"threads": self._threads}, {}))
        try:
            if not isinstance(model, Tracer) or not isinstance(model, LogitSource):
                raise UnsupportedModel("the layers of this model one by one", engine=model.info.engine)
            chunks = cut(model.tokenize(self._words), CHUNK_TOKENS, at_most=self._chunks)
            teller = Teller()
            return block_influence(model, chunks, progress=lambda done, total: teller("influence", done, total))
        finally:
            model.close()

    def _widths(self) -> Any:
        from madang.native import MutableModel
        from madang.quantization.divergence import cut
        from madang.training.pruning import measure_widths

        model, teller = MutableModel(self._folder, self._threads), Teller()
        chunks = cut(model.tokenize(self._words), CHUNK_TOKENS, at_most=self._chunks)
        return measure_widths(model, chunks, progress=lambda done, total: teller("activations", done, total))
