"""``madang rm``: delete a model from the store."""

from __future__ import annotations

import typer

from madang.cli import options
from madang.cli.console import data, data_json
from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes


def rm(ctx: typer.Context, model: options.Model, as_json: options.Json = False) -> None:
    """Delete a model.

    Files that other models share stay.
    """
    from madang.models import FileReference, Store, parse_reference

    store = Store(options.settings_of(ctx).home)
    reference = parse_reference(model)
    if isinstance(reference, FileReference):
        raise InvalidRequest(
            f"{reference.path} is not in the store, so madang does not delete it.",
            param="model",
            hint="Delete the file itself if it is no longer needed.",
        )
    freed_bytes = store.remove(reference)
    if as_json:
        data_json({"removed": str(reference), "freed_bytes": freed_bytes})
    else:
        data(f"Removed {reference}, {format_bytes(freed_bytes)} freed.")
