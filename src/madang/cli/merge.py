"""``madang merge``: one model of several, without training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.certifying import CHUNK_TOKENS, REPORT_CHUNKS, Made
from madang.cli.console import note
from madang.cli.making import n_threads
from madang.cli.sizing import read_text
from madang.core.errors import InvalidRequest

if TYPE_CHECKING:
    from madang.training.merging import Recipe, Source

Paths = Annotated[
    list[Path], typer.Argument(metavar="SRC... DST", help="Model folders or LoRA adapters, and the folder to write.")
]
Base = Annotated[
    Path | None,
    typer.Option("--base", metavar="FOLDER", help="The full-precision model that the others come from."),
]
Method = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="WORD", help="linear (unset), slerp, ties or dare; several in a sweep."),
]
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="W,W", help="One for each model. Unset: equal ones, or a sweep.")
]
Density = Annotated[
    float, typer.Option("--density", metavar="D", min=0.001, max=1, help="What ties and dare keep of each change.")
]
Validation = Annotated[
    Path | None,
    typer.Option("--validation", metavar="FILE", help="Try many weights, and take those that are best on this text."),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Another text, for the certificate. Unset: no certificate."),
]


def merge(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    paths: Paths,
    *,
    base: Base = None,
    method: Method = None,
    weights: Weights = None,
    density: Density = 0.5,
    validation: Validation = None,
    report: Report = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Merge models, or adapters with their full-precision base; a single adapter goes into its base as it is.

    Nothing is merged into a quantized model: quantize the merged one.
    """
    from madang.training.folders import require_new
    from madang.training.merging import open_source, recipes_to_try, sweep, write_merged

    begun_s = time.monotonic()
    settings = options.settings_of(ctx, threads=threads)
    if len(paths) < 2:
        raise InvalidRequest("There must be something to merge, and a folder to write.", hint="madang merge A B DST")
    *given, target = paths
    require_new(target)
    sources = [open_source(path, base) for path in given]
    origin = None if base is None else open_source(base)
    report_words = None if report is None else read_text(report)
    told: dict[str, Any]
    if validation is None:
        recipe = _recipe(method or ["linear"], weights, density, len(sources))
        write_merged(target, sources, recipe, origin, n_threads=n_threads(settings))
        told = {"chosen": recipe.to_dict()}
    else:
        if weights is not None:
            raise InvalidRequest("--weights makes no sense with --validation, which looks for them.", param="weights")
        recipes = recipes_to_try(len(sources), method or ["linear"])
        chunks = _chunks(sources[0], read_text(validation), n_threads(settings))
        told = sweep(target, sources, recipes, chunks, origin, n_threads=n_threads(settings), tell=_tell).to_dict()
    size_bytes = sum(one.stat().st_size for one in target.glob("*.safetensors"))
    document: dict[str, Any] = {"path": str(target.absolute()), "size_bytes": size_bytes, **told}
    made = Made("merge", list(map(str, given)), document, begun_s)
    if report_words is not None:
        models = {source.name: source.folder for source in sources if not source.is_adapted}
        models |= {} if origin is None else {origin.name: origin.folder}
        made.certify({**models, "merged": target}, report_words, n_threads(settings), told)
    made.keep(settings)
    made.tell(as_json=as_json)


def _recipe(methods: list[str], weights: str | None, density: float, n_models: int) -> Recipe:
    from madang.training.merging import Recipe

    if len(methods) > 1:
        raise InvalidRequest("Several methods are for a sweep.", param="method", hint="Give --validation FILE.")
    try:
        numbers = (1.0,) * n_models if weights is None else tuple(float(part) for part in weights.split(","))
    except ValueError:
        raise InvalidRequest(f"'{weights}' is not numbers with commas between.", param="weights") from None
    return Recipe(methods[0], numbers, density)


def _chunks(source: Source, words: str, threads: int) -> list[list[int]]:
    from madang.native import MutableModel
    from madang.quantization.divergence import cut

    return cut(MutableModel(source.folder, threads).tokenize(words), CHUNK_TOKENS, at_most=REPORT_CHUNKS)


def _tell(recipe: Recipe, perplexity: float) -> None:
    parts = ", ".join(f"{weight:.2f}" for weight in recipe.weights)
    note(f"{recipe.method} {parts}, density {recipe.density:g}: perplexity {perplexity:.3f}")
