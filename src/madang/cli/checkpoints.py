"""``madang quantize --type NF4`` and the like: folders in fewer bits for PyTorch, and their certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli.console import data, note
from madang.cli.making import n_threads, target_of, tell_made
from madang.cli.pull import model_document, watching
from madang.cli.sizing import Teller, calibration_text
from madang.core.engine import LogitSource
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.models import ModelFiles
    from madang.quantization.checkpoint_types import CheckpointType
    from madang.quantization.checkpoints import CheckpointJob, MadeCheckpoint

GroupSize = Annotated[
    int | None,
    typer.Option("--group-size", metavar="N", help="For GPTQ and AWQ: columns that share a scale. Unset: 128 or less."),
]
_WORK = "quantizing"  # below home


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line said."""

    type: CheckpointType
    bits: float | None
    group_size: int | None
    text: Path | None
    held_out: Path | None


def quantize_to_checkpoint(source: str, target: str | None, settings: Settings, asked: Asked, *, as_json: bool) -> None:
    """Write a folder, in the store or where ``target`` says, and tell what it lost."""
    from madang.models import FileReference, Store, make_folder_model
    from madang.quantization.checkpoints import CheckpointJob, require_packages
    from madang.runtime import find_files

    store = Store(settings.home)
    files = find_files(source, store)
    type_name = asked.type.name
    beside = files.path.with_name(f"{files.path.name.removesuffix('.gguf')}-{type_name}")
    reference = target_of(source, target, beside=beside, word=type_name.lower(), may_be_folder=True)
    require_packages(asked.type)
    text = calibration_text(asked.text, asked.held_out)
    made: list[MadeCheckpoint] = []
    with _as_folder(files, settings) as folder:
        job = CheckpointJob(
            folder,
            asked.type,
            text,
            open_folder=lambda folder: _opened(folder, settings),
            work=settings.home / _WORK,
            n_threads=n_threads(settings),
            bits=asked.bits,
            group_size=asked.group_size,
        )
        if isinstance(reference, FileReference):
            path = reference.path
            made.append(_made(job, path))
            done: dict[str, object] = {"name": str(reference), "path": str(path), "size_bytes": made[0].size_bytes}
        else:
            done = model_document(
                make_folder_model(
                    store,
                    reference,
                    files,
                    f"quantized from {files.name}",
                    lambda path: made.append(_made(job, path)),
                )
            )
    tell_made({**done, "type": type_name, "certificate": dict(made[0].certificate)}, as_json=as_json)
    if not as_json:
        found = made[0].found
        data(
            f"Mean KL {found.mean:.5f}, same top token {found.agreement:.1%}, "
            f"perplexity {found.perplexity:.3f} (source {found.reference_perplexity:.3f}), on {len(found.kl)} tokens."
        )


def _made(job: CheckpointJob, path: Path) -> MadeCheckpoint:
    from madang.quantization.checkpoints import quantize_checkpoint

    return quantize_checkpoint(job, path, Teller())


@contextmanager
def _as_folder(files: ModelFiles, settings: Settings) -> Iterator[Path]:
    """The source itself, or a folder made of the GGUF file, for as long as it is needed."""
    if files.format != "gguf":
        yield files.path
        return
    from madang.conversion import to_folder
    from madang.formats.gguf import read_gguf

    types = {tensor.type for tensor in read_gguf(files.path).tensors.values()}
    quantized = ", ".join(sorted(one.name for one in types if one.block_elements > 1))
    if quantized:
        note(
            f"Note: the source is quantized already ({quantized}). What that lost stays lost, and the certificate does "
            "not count it; its values lie on a grid, which makes them another model to measure. Start from floats."
        )
    work = settings.home / _WORK
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
        with watching(f"Converting {files.name}") as progress:
            to_folder(files.path, Path(folder) / files.path.stem, n_threads=n_threads(settings), progress=progress)
        yield Path(folder) / files.path.stem


@contextmanager
def _opened(folder: Path, settings: Settings) -> Iterator[LogitSource]:
    from madang.core.settings import load_settings
    from madang.runtime import open_model

    told = {"home": str(settings.home), "engine": "transformers", "threads": settings.threads}
    own = load_settings({name: value for name, value in told.items() if value is not None}, {})
    with closing(open_model(f"file:{folder.absolute()}", own)) as engine:
        if not isinstance(engine, LogitSource):
            raise InvalidRequest("The model makes vectors, not text; these types are for models that write.")
        yield engine


def refuse_with_type(type_name: str, given: Mapping[str, bool]) -> None:
    """Options that say nothing about a folder. Raises InvalidRequest."""
    for option, is_given in given.items():
        if is_given:
            raise InvalidRequest(
                f"{option} makes no sense with --type {type_name}, which writes a folder for PyTorch.",
                hint="Leave it out.",
            )
