"""Data sets of a Hugging Face hub: single files, kept in huggingface_hub's own cache, and errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from madang.core.errors import InvalidRequest, NetworkUnavailable, SourceError
from madang.models.sources.huggingface import broken_connection, hub_address


def fetch_dataset_file(
    repository: str,
    file: str,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    offline: bool = False,
    cache: Path | None = None,
) -> Path | None:
    """A file of a data set, fetched where it is not in the cache yet; None where the data set has no such file.

    ``offline`` only looks in the cache, which is huggingface_hub's own unless ``cache`` names another. Raises
    NetworkUnavailable for what is not here and cannot be fetched, and what :func:`dataset_errors` does.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with dataset_errors(repository, endpoint):
        try:
            found: str = hf_hub_download(
                repository,
                file,
                repo_type="dataset",
                revision=revision,
                endpoint=endpoint,
                cache_dir=cache,
                local_files_only=offline,
            )
        except RemoteEntryNotFoundError:
            return None
    return Path(found)


def dataset_files(repository: str, *, revision: str | None = None, endpoint: str | None = None) -> list[str]:
    """The files of a data set. Raises what :func:`dataset_errors` does."""
    from huggingface_hub import HfApi

    with dataset_errors(repository, endpoint):
        return list(HfApi(endpoint=endpoint).list_repo_files(repository, repo_type="dataset", revision=revision))


@contextmanager
def dataset_errors(repository: str, endpoint: str | None) -> Iterator[None]:
    """Inside of it the library's errors become ours.

    Raises SourceError (gated, not there, refused, no room) and NetworkUnavailable; InvalidRequest for a bad name.
    """
    from huggingface_hub import errors

    hub = hub_address(endpoint)
    page, token = f"{hub}/datasets/{repository}", "run 'hf auth login' or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(
            f"The data set {repository} is gated: its publisher wants its terms accepted first, by the account whose"
            " token you use.",
            hint=f"Accept them at {page}, {token}, and try again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"There is no data set {repository} at {hub}, or it is private.",
            hint=f"Check the name; for a private one, {token}.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"The data set {repository} has no such revision.", hint=f"See its revisions at {page}."
        ) from error
    except errors.HFValidationError as error:
        raise InvalidRequest(f"'{repository}' names no data set ({error}).", param="data") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise NetworkUnavailable(
            f"The data set {repository} is not on this machine, and {hub} could not be asked for it.",
            hint="Check the connection and HF_HUB_OFFLINE, or try again later.",
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise SourceError(f"{hub} answered {status} when asked for {repository}.", hint="Try again later.") from error
    except (broken_connection(), ConnectionError, TimeoutError) as error:
        raise NetworkUnavailable(
            f"{hub} did not answer, or the connection to it broke ({type(error).__name__}).",
            hint="Check the connection and try again.",
        ) from error
    except OSError as error:
        raise SourceError(f"The data set {repository} cannot be kept: {error.strerror or error}.") from error
