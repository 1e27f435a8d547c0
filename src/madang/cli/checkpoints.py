"""``madang quantize --type NF4`` and the like: folders in fewer bits for PyTorch, and their certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli.console import data, data_json, note
from madang.cli.pull import model_document, watching
from madang.cli.sizing import Teller, calibration_text
from madang.core.engine import LogitSource
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.models import FileReference, ModelFiles, NameReference, Store
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


def quantize_to_checkpoint(
    files: ModelFiles,
    target: FileReference | NameReference,
    store: Store,
    settings: Settings,
    asked: Asked,
    *,
    as_json: bool,
) -> None:
    """Write a folder, in the store or where ``target`` says, and tell what it lost."""
    from madang.models import FileReference, make_folder_model
    from madang.quantization.checkpoints import CheckpointJob, require_packages

    require_packages(asked.type)
    text = calibration_text(asked.text, asked.held_out)
    made: list[MadeCheckpoint] = []
    with _as_folder(files, settings) as source:
        job = CheckpointJob(
            source,
            asked.type,
            text,
            open_folder=lambda folder: _opened(folder, settings),
            work=settings.home / _WORK,
            n_threads=_n_threads(settings),
            bits=asked.bits,
            group_size=asked.group_size,
        )
        if isinstance(target, FileReference):
            made.append(_made(job, target.path))
            done: dict[str, object] = {"name": str(target), "path": str(target.path), "size_bytes": made[0].size_bytes}
        else:
            done = model_document(
                make_folder_model(
                    store,
                    target,
                    files,
                    f"quantized from {files.name}",
                    lambda path: made.append(_made(job, path)),
                )
            )
    if as_json:
        data_json({**done, "type": asked.type.name, "certificate": dict(made[0].certificate)})
    else:
        found = made[0].found
        data(f"{done['name']}  {format_bytes(int(str(done['size_bytes'])))}  {done['path']}")
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
            to_folder(files.path, Path(folder) / files.path.stem, n_threads=_n_threads(settings), progress=progress)
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


def _n_threads(settings: Settings) -> int:
    from madang.hardware import probe_machine

    return settings.threads or probe_machine(settings.home, gpus=False).physical_cores or 1


def refuse_with_type(type_name: str, given: Mapping[str, bool]) -> None:
    """Options that say nothing about a folder. Raises InvalidRequest."""
    for option, is_given in given.items():
        if is_given:
            raise InvalidRequest(
                f"{option} makes no sense with --type {type_name}, which writes a folder for PyTorch.",
                hint="Leave it out.",
            )


def target_of(files: ModelFiles, source: str, target: str | None, type_name: str) -> FileReference | NameReference:
    """A folder beside the source, or a tag, with the type behind its name, where nobody says another."""
    from madang.models import FileReference, NameReference, parse_reference

    if target is not None:
        # A name without a tag could be either; most who write one mean a folder.
        reference = parse_reference(target if ":" in target else str(Path(target).expanduser().absolute()))
    else:
        reference = parse_reference(source)
        if isinstance(reference, FileReference):
            stem = files.path.name.removesuffix(".gguf")
            reference = FileReference(files.path.with_name(f"{stem}-{type_name}"))
        elif isinstance(reference, NameReference):
            reference = NameReference(reference.name, f"{reference.tag}-{type_name.lower()}")
    if not isinstance(reference, FileReference | NameReference):
        raise InvalidRequest(
            f"{reference} cannot be written to.", param="DST", hint="Name a folder, or a model: mine:nf4."
        )
    return reference
