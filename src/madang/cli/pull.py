"""``madang pull``: fetch a model, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data, data_json, note
from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from madang.core.settings import Settings
    from madang.models import ModelFiles, Progress, Reference, Store


def pull(
    ctx: typer.Context,
    model: options.Model,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="What the file at an https:// address must have.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch a model. One that is here already is not fetched again, and one that broke off is gone on with."""
    from madang.models import Store, parse_reference

    settings = options.settings_of(ctx)
    reference = parse_reference(model)
    if sha256 is not None:
        reference = _with_checksum(model, reference, sha256)
    files = fetcher(settings)(reference, Store(settings.home))
    if as_json:
        data_json(model_document(files))
    else:
        data(f"{files.name}  {format_bytes(files.size_bytes)}  {files.path}")


def fetcher(settings: Settings) -> Callable[[Reference, Store], ModelFiles]:
    """What fetches a model that is not here, with progress on stderr. Raises what :func:`madang.models.pull` raises."""
    from madang.models import pull as pull_model
    from madang.models import sources_of

    sources = sources_of(settings)

    def fetch(reference: Reference, store: Store) -> ModelFiles:
        with watching(f"Pulling {reference}") as progress:
            return pull_model(reference, store, progress, sources, note)

    return fetch


def _with_checksum(text: str, reference: Reference, sha256: str) -> Reference:
    from madang.models import UrlReference, parse_reference

    if not isinstance(reference, UrlReference) or reference.sha256 not in (None, sha256.lower()):
        raise InvalidRequest(
            f"{text} has its checksum from where it comes from.", param="sha256", hint="Leave --sha256 out."
        )
    return parse_reference(f"{reference.url}#sha256={sha256}")


def model_document(files: ModelFiles) -> dict[str, object]:
    """A stored model for programs."""
    return {
        "name": files.name,
        "format": files.format,
        "size_bytes": files.size_bytes,
        "modified": files.modified.isoformat(timespec="seconds"),
        "source": files.source,
        "path": str(files.path),
    }


@contextmanager
def watching(title: str) -> Iterator[Progress]:
    """Shows how far work on a file is: a progress bar on a terminal, two lines anywhere else."""
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    bar = _Bar(title)
    try:
        yield bar
    finally:
        bar.stop()


class _Lines:
    """Says that it begins and that it is done."""

    def __init__(self, title: str) -> None:
        self._title = title

    def started(self, total_bytes: int | None) -> None:
        """Name the model and what it weighs."""
        note(self._title if total_bytes is None else f"{self._title} ({format_bytes(total_bytes)})")

    def advanced(self, n_bytes: int) -> None:
        """A log has no use for each chunk."""

    def finished(self) -> None:
        """Say so."""
        note("Done.")


class _Bar:
    """Bytes, rate and the time that is left."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def started(self, total_bytes: int | None) -> None:
        """Show the bar; it pulses while the size is unknown."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self._title, total=total_bytes)
        self._bar.start()

    def advanced(self, n_bytes: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=n_bytes)

    def finished(self) -> None:
        """The last state stays on the screen."""
        self.stop()

    def stop(self) -> None:
        """Give the terminal back; also after an error."""
        if self._bar is not None:
            self._bar.stop()
