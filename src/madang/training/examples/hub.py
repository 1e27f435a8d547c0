"""Datasets of the Hugging Face hub, streamed: ``hf:owner/name[@revision][#split]``, split ``train`` unless said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from madang.core.errors import EngineUnavailable, InvalidRequest, NetworkUnavailable

_PREFIX: Final = "hf:"
_NAME: Final = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?:#([\w.\[\]:%-]+))?")

Stream = Callable[[str, str | None, str], Iterable[Any]]


def is_hub_name(name: str) -> bool:
    """Whether a name means a dataset of the hub rather than a file."""
    return name.startswith(_PREFIX)


def read_hub(name: str, stream: Stream | None = None) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers from 1, as they come.

    stream   (repository, revision, split) -> rows; unset: the `datasets` library, which runs no code of a dataset

    Raises InvalidRequest for a name that is none, EngineUnavailable without the library, NetworkUnavailable for all
    that goes wrong on the way.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(
            f"'{name}' names no dataset.", param="data", hint="Write hf:owner/name[@revision][#split]."
        )
    repository, revision, split = match.groups()
    try:
        yield from enumerate((stream or _streamed)(repository, revision, split or "train"), start=1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise NetworkUnavailable(
            f"The dataset {repository} could not be read: {reason.rstrip('.')}.",
            hint="Check the name and the network, or download it and give the file.",
        ) from error


def _streamed(repository: str, revision: str | None, split: str) -> Iterable[Any]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise EngineUnavailable(
            "Datasets of the hub need the datasets library.", hint="Install it with: pip install 'madang[train]'"
        ) from error
    return cast("Iterable[Any]", load_dataset(repository, revision=revision, split=split, streaming=True))
