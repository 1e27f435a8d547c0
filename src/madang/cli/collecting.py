"""What the verbs of ``madang rag`` share: the collections of this machine, and models that are opened once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from madang.core.errors import NotFound

if TYPE_CHECKING:
    from madang.core.engine import Embedder
    from madang.core.settings import Settings
    from madang.rag.collections import Collections

DEFAULT_COLLECTION = "documents"

Key = Annotated[
    str, typer.Option("--key", metavar="NAME", help="Collections of this API key; unset: those made without one.")
]
CollectionNames = Annotated[
    list[str] | None,
    typer.Option("--collection", "-c", metavar="NAME", help="Where to look; again for more. Unset: all of them."),
]
OneDocument = Annotated[
    str | None, typer.Option("--document", "-d", metavar="NAME", help="Only in this document: its id, title or file.")
]
Speaker = Annotated[str | None, typer.Option("--speaker", metavar="NAME", help="Only what this person said.")]


@contextmanager
def collections_of(settings: Settings) -> Iterator[Collections]:
    """The collections; embedding models are opened when they are needed, and closed in the end."""
    from madang.rag.collections import Collections
    from madang.storage import DATABASE_FILE, Database

    with ExitStack() as opened, closing(Database(settings.home / DATABASE_FILE)) as database:
        models: dict[str, Embedder] = {}

        @contextmanager
        def open_embedder(model: str) -> Iterator[Embedder]:
            from madang.cli.pull import fetcher
            from madang.runtime import open_embedder as open_model

            if model not in models:
                own = replace(settings.for_all_models(), context=None)  # which is for the model that answers
                models[model] = opened.enter_context(closing(open_model(model, own, fetch=fetcher(settings))))
            yield models[model]

        collections = Collections(
            database,
            settings.home,
            open_embedder=open_embedder,
            qdrant_url=settings.qdrant_url,
            qdrant_key=settings.qdrant_key,
        )
        opened.callback(collections.close)
        yield collections


def chosen(collections: Collections, owner: str, names: list[str] | None) -> list[str]:
    """The collections that were named, or all. Raises NotFound when there are none."""
    found = names or [one.name for one in collections.list(owner)]
    if not found:
        raise NotFound("collection", DEFAULT_COLLECTION, hint="Make one of your documents with: madang rag add PATH")
    for name in found:
        collections.get(owner, name)
    return found
