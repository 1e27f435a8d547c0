"""What the verbs that make one model of another share: with what, where it goes, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from madang.cli.console import data, data_json
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.models import FileReference, NameReference


def n_threads(settings: Settings) -> int:
    """That compute."""
    from madang.hardware import probe_machine

    return settings.threads or probe_machine(settings.home, gpus=False).physical_cores or 1


def target_of(
    source: str, target: str | None, *, beside: Path, word: str, may_be_folder: bool
) -> FileReference | NameReference:
    """Where to write what is made of ``source``: at ``target``; unset, beside it or in the store.

    beside          the path, of a source that has one
    word            put behind the tag of a source that has a name
    may_be_folder   a ``target`` without a tag could be a name or a folder; most who write one mean a folder

    Raises InvalidRequest.
    """
    from madang.models import FileReference, NameReference, parse_reference

    if target is not None:
        is_path = may_be_folder and ":" not in target
        reference = parse_reference(str(Path(target).expanduser().absolute()) if is_path else target)
    else:
        reference = parse_reference(source)
        if isinstance(reference, FileReference):
            reference = FileReference(beside)
        elif isinstance(reference, NameReference):
            reference = NameReference(reference.name, f"{reference.tag}-{word}")
    if not isinstance(reference, FileReference | NameReference):
        raise InvalidRequest(
            f"{reference} cannot be written to.", param="DST", hint="Name a file or folder, or a model: mine:q4."
        )
    return reference


def tell_made(done: Mapping[str, object], *, as_json: bool) -> None:
    """Print ``name``, ``size_bytes`` and ``path``, or all of it as JSON."""
    if as_json:
        data_json(done)
    else:
        data(f"{done['name']}  {format_bytes(int(str(done['size_bytes'])))}  {done['path']}")
