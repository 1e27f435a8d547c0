"""``madang export``: a trained model as files that others run, each compared with it before it is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data_json, data_table, note
from madang.cli.making import n_threads
from madang.cli.pull import watching
from madang.cli.sizing import read_text
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.training.exporting import Exported, Kind, Trained

Source = Annotated[str, typer.Argument(metavar="RUN-OR-FOLDER", help="A run's id, its folder, or one with weights.")]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="KIND",
        help="adapter[:peft], safetensors[:f32|f16|bf16], gguf[:Q4_K_M|:120MB], onnx, mlx[:4|:8], modelfile, card; "
        "several are several --to.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Unset: RUN-OR-FOLDER with '-export' behind its name.")
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="MODEL", help="What the adapter was trained on, where it does not say so."),
]
Text = Annotated[
    Path | None,
    typer.Option(
        "--text", metavar="FILE", help="Held-out text of the model's field, for the comparison and for sizes."
    ),
]
MaxKL = Annotated[
    float | None,
    typer.Option("--max-kl", metavar="NATS", min=0, max=100, help="Allow so much per token. Unset: the type's bound."),
]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Also keep it under this name, for 'madang run' and running servers."),
]
Push = Annotated[
    str | None, typer.Option("--push", metavar="OWNER/NAME", help="Upload what was exported to the Hugging Face hub.")
]
Public = Annotated[bool, typer.Option("--public", help="With --push: for everybody to see. Unset: private.")]


def export(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    source: Source,
    *,
    to: To = None,
    out: Out = None,
    base: Base = None,
    text: Text = None,
    max_kl: MaxKL = None,
    name: As = None,
    push: Push = None,
    public: Public = False,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Write a tuned model as files that others run, and keep only what is the model that was trained.

    Each file must read the same tokens, end its answers the same way, give the same greedy answers and nearly the same
    probabilities as the trained model in torch; otherwise nothing of it is kept, and the first difference is shown.
    """
    from madang.training.exporting import Options, find_trained, parse_kind
    from madang.training.exporting import export as export_all

    settings = options.settings_of(ctx, threads=threads)
    if not to:
        raise InvalidRequest("Nothing was asked for.", param="to", hint="For example: --to gguf:Q8_0 --to card")
    if public and push is None:
        raise InvalidRequest("--public makes no sense without --push.", param="public", hint="Leave it out.")
    kinds = [parse_kind(own) for own in to]
    held_out = None if text is None else read_text(text)
    with watching(f"Reading {source}") as progress:
        trained = find_trained(source, settings.home, base, progress=progress)
    if name is not None:
        _require_keepable(name, trained, kinds, settings)
    target = Path(f"{trained.name}-export") if out is None else out.expanduser()
    done = export_all(trained, kinds, target, Options(n_threads(settings), held_out, max_kl), tell=_tell)
    kept = None if name is None else _keep(name, trained, done, settings)
    address = None if push is None else _push(target, push, public=public)
    if as_json:
        data_json({"exports": [own.to_dict() for own in done], "name": kept, "pushed": address})
        return
    data_table([["EXPORT", "SIZE", "KL", "GREEDY", "PATH"], *map(_row, done)], right=[1, 2, 3])
    if kept is not None:
        note(f"Run it with: madang run {kept}")
    if address is not None:
        note(f"Pushed to {address}")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _row(own: Exported) -> list[str]:
    measured = ["", ""] if own.parity is None else [f"{own.parity.mean_kl:.2g}", f"{own.parity.agreement:.1%}"]
    return [own.kind, format_bytes(own.size_bytes), *measured, str(own.path)]


def _require_keepable(name: str, trained: Trained, kinds: list[Kind], settings: Settings) -> None:
    """Before anything is computed. Raises InvalidRequest, InvalidReference, ModelNotFound."""
    from madang.models import Store
    from madang.training.exporting.keeping import base_in_store, new_name

    new_name(name)
    if any(kind.name == "gguf" for kind in kinds):
        return
    if not any(kind.name == "adapter" and kind.detail != "PEFT" for kind in kinds):
        raise InvalidRequest(
            "Only GGUF files are kept by name.", param="as", hint="Add --to gguf:Q4_K_M or --to adapter."
        )
    base_in_store(Store(settings.home), trained)


def _keep(name: str, trained: Trained, done: list[Exported], settings: Settings) -> str:
    """Put a GGUF file, or an adapter beside its base, into the store under ``name``."""
    from madang.models import Store
    from madang.training.exporting.keeping import keep_adapter, keep_gguf

    store = Store(settings.home)
    if (whole := next((own for own in done if own.kind.startswith("gguf")), None)) is not None:
        return keep_gguf(store, name, whole.path, trained)
    adapter = next(own for own in done if own.path.name == "adapter.gguf")
    return keep_adapter(store, name, adapter.path, trained)


def _push(folder: Path, repository: str, *, public: bool) -> str:
    from madang.training.exporting.hub import push_to_hub

    return push_to_hub(folder, repository, public=public)
