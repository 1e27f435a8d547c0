"""Putting exported files on a Hugging Face hub: only when a person asks for it, private unless they say otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from madang.core.errors import InvalidRequest, SourceError
from madang.models import HubReference
from madang.models.sources.huggingface import errors_of_hub


def push_to_hub(
    folder: Path,
    repository: str,
    *,
    public: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload all files of ``folder`` in one commit, and return the address of the repository.

    endpoint, token   in place of what huggingface_hub finds in its own configuration

    Raises InvalidRequest for a name that is none, SourceError for what the hub refuses, NetworkUnavailable.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(endpoint=endpoint, token=token)
    with errors_of_hub(HubReference(repository), endpoint):
        try:
            made: Any = api.create_repo(repository, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message="Upload from madang export",
                ignore_patterns=[".*"],
            )
        except HFValidationError as error:
            raise InvalidRequest(
                f"'{repository}' is no name of a repository.", param="push", hint="Write owner/name."
            ) from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            login = "Log in with 'hf auth login', or set HF_TOKEN to a token that may write."
            raise SourceError(
                f"The hub refused to take {repository}: {_said(error)}", hint=login if status in (401, 403) else None
            ) from error
    return str(made)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
