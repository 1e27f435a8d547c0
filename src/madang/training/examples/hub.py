"""Datasets of the Hugging Face hub, streamed: ``hf:owner/name[/configuration][@revision][#split]``.

The split is ``train`` unless said, and a dataset of several configurations needs one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from madang.core.errors import EngineUnavailable, InvalidRequest, NetworkUnavailable, SourceError
from madang.core.settings import Settings, load_settings
from madang.models import dataset_errors

_PREFIX: Final = "hf:"
_NAME: Final = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@([\w./-]+))?(?:#([\w.\[\]:%-]+))?")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """What is read of a repository; None is what the hub takes where nothing is said."""

    repository: str
    configuration: str | None = None
    revision: str | None = None
    split: str = "train"


Stream = Callable[[HubDataset], Iterable[Any]]


def is_hub_name(name: str) -> bool:
    """Whether a name means a dataset of the hub rather than a file."""
    return name.startswith(_PREFIX)


def parse_hub_name(name: str) -> HubDataset:
    """Raises InvalidRequest for a name that is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(
            f"'{name}' names no dataset.", param="data", hint="Write hf:owner/name[/configuration][@revision][#split]."
        )
    repository, configuration, revision, split = match.groups()
    return HubDataset(repository, configuration, revision, split or "train")


def read_hub(name: str, stream: Stream | None = None) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers from 1, as they come.

    stream   from where; unset: the hub of the settings, read with the `datasets` library, which runs no code of a
             dataset

    Raises InvalidRequest for a name, configuration or split that is none, EngineUnavailable without the library,
    SourceError and NetworkUnavailable for what goes wrong on the way.
    """
    dataset = parse_hub_name(name)
    yield from enumerate((stream or hub_stream(load_settings({}, os.environ)))(dataset), start=1)


def hub_stream(settings: Settings) -> Stream:
    """Rows from the hub of these settings, which are told to the library: it has them for a whole process."""

    def stream(dataset: HubDataset) -> Iterator[Any]:
        if settings.offline:
            raise NetworkUnavailable(
                f"The dataset {dataset.repository} is on the hub, and madang is set to fetch nothing (offline).",
                hint="Unset 'offline', or download it elsewhere and give the file.",
            )
        try:
            import datasets
        except ImportError as error:
            raise EngineUnavailable(
                "Datasets of the hub need the datasets library.", hint="Install it with: pip install 'madang[train]'"
            ) from error
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # otherwise it tells another host what is read
        if settings.hf_endpoint is not None:
            datasets.config.HF_ENDPOINT = settings.hf_endpoint
        with dataset_errors(dataset.repository, settings.hf_endpoint), _errors_of(dataset):
            yield from cast(
                "Iterable[Any]",
                datasets.load_dataset(
                    dataset.repository,
                    dataset.configuration,
                    revision=dataset.revision,
                    split=dataset.split,
                    streaming=True,
                ),
            )

    return stream


@contextmanager
def _errors_of(dataset: HubDataset) -> Iterator[None]:
    """What the datasets library itself has to say; the hub's own errors pass through."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except ValueError as error:  # a configuration or split that there is not, or no configuration where one is needed
        raise InvalidRequest(
            f"The dataset {dataset.repository} cannot be read so: {_reason(error)}.",
            param="data",
            hint="Write hf:owner/name[/configuration][@revision][#split].",
        ) from error
    except DatasetsError as error:
        raise SourceError(
            f"The dataset {dataset.repository} cannot be read: {_reason(error)}.",
            hint="Check the name; for a gated or private one, run 'hf auth login' or set HF_TOKEN.",
        ) from error


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(".")
