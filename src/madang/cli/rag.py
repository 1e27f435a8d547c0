"""``madang rag``: one's own documents, taken in, listed, searched and removed."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.collecting import (
    DEFAULT_COLLECTION,
    CollectionNames,
    Key,
    OneDocument,
    Speaker,
    chosen,
    collections_of,
)
from madang.cli.console import data, data_json, data_table, note
from madang.core.errors import InvalidRequest, MadangError, NotFound
from madang.core.units import format_bytes, format_count

if TYPE_CHECKING:
    from madang.rag.adding import AddProgress
    from madang.rag.collections import Collections
    from madang.rag.searching import Found, Hit, Mode

EXIT_SOME_FAILED = 1
_SHOWN_CHARACTERS = 300


def add(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files, and folders with all below them.")],
    *,
    collection: Annotated[
        str, typer.Option("--collection", "-c", metavar="NAME", help="Where to; made if there is none.")
    ] = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Embedding model of a new collection; unset: all-minilm:l6."),
    ] = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """Take documents into a collection. What is there already is not read again; what has changed is replaced."""
    from madang.rag.files import find_files

    found = find_files(paths)
    with collections_of(options.settings_of(ctx)) as collections:
        _made(collections, key, collection, model)
        rows = [_added(collections, (key, collection), file) for file in found.files]
    counted = Counter(str(row["state"]) for row in rows)
    if as_json:
        data_json({"collection": collection, "documents": rows, "skipped": dict(found.skipped)})
    else:
        note(", ".join(f"{n} {state}" for state, n in counted.items()) or "There was nothing to add.")
        for remark, n in _remarks(rows).items():
            note(remark if n == 1 else f"{remark} So it is with {n} documents.")
        if found.skipped:
            note("Left out: " + ", ".join(f"{n} {why}" for why, n in found.skipped.items()))
    if counted["failed"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def list_collections(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="COLLECTION", help="Its documents; unset: collections.")] = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """List the collections, or the documents of one."""
    with collections_of(options.settings_of(ctx)) as collections:
        if name is not None:
            _list_documents(collections.documents(key, name), as_json)
            return
        found = collections.list(key)
    if as_json:
        data_json({"collections": [asdict(one) for one in found]})
    elif not found:
        note("There are no collections yet. Make one of your documents with: madang rag add PATH")
    else:
        rows = [
            [one.name, str(one.n_documents), str(one.n_chunks), format_bytes(one.size_bytes), one.embedding_model]
            for one in found
        ]
        data_table([["NAME", "DOCUMENTS", "CHUNKS", "SIZE", "MODEL"], *rows], right=[1, 2, 3])


def search(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="WORDS", help="A question, or words.")],
    *,
    collection: CollectionNames = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100, help="Most passages to show.")] = 5,
    mode: Annotated[str, typer.Option("--mode", metavar="WORD", help="hybrid, or only dense or lexical.")] = "hybrid",
    document: OneDocument = None,
    speaker: Speaker = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """Show the passages that say most about a question, each with its scores."""
    from madang.rag.finding import find_document

    with collections_of(options.settings_of(ctx)) as collections:
        names = chosen(collections, key, collection)
        only = None if document is None else find_document(collections, key, names, document)[1].id
        found = collections.search(
            key, names, query, limit=limit, mode=search_mode(mode), document=only, speaker=speaker
        )
    if as_json:
        data_json(found_document(found))
        return
    for hit in found.hits:
        data(_shown(hit))
    if not found.is_relevant:
        note("Nothing here is about it; a question would be refused." if found.hits else "Nothing was found.")


def rm(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="COLLECTION", help="Which collection.")],
    document: Annotated[
        str | None, typer.Argument(metavar="DOCUMENT", help="Only this: its id, title or path; unset: all of it.")
    ] = None,
    key: Key = "",
    as_json: options.Json = False,
) -> None:
    """Delete a collection, or one document of it. The files that they were made of stay where they are."""
    from madang.rag.finding import find_document

    with collections_of(options.settings_of(ctx)) as collections:
        if document is None:
            collections.remove(key, name)
            removed, told = name, f"the collection {name}"
        else:
            stored = find_document(collections, key, [name], _as_source(document))[1]
            collections.remove_document(key, name, stored.id)
            removed, told = stored.id, f"{stored.title} from {name}"
    if as_json:
        data_json({"removed": removed})
    else:
        note(f"Removed {told}.")


def search_mode(word: str) -> Mode:
    """Raises InvalidRequest."""
    match word:
        case "hybrid" | "dense" | "lexical":
            return word
    raise InvalidRequest(f"--mode is '{word}', but must be hybrid, dense or lexical.", param="mode")


def found_document(found: Found) -> dict[str, Any]:
    """A search for programs."""
    return {
        "hits": [asdict(hit) for hit in found.hits],
        "is_relevant": found.is_relevant,
        "timings": asdict(found.timings),
    }


def _made(collections: Collections, owner: str, name: str, model: str | None) -> None:
    """See that the collection is there. Raises InvalidRequest for one of another model."""
    from madang.rag.embedding import ModelFacts

    try:
        known = collections.get(owner, name)
    except NotFound:
        made = collections.create(owner, name, model)
        note(f"Made the collection {name}; its vectors come from {made.embedding_model}.")
        return
    if model is not None and ModelFacts.of(model).name != known.embedding_model:
        raise InvalidRequest(
            f"{name} was made with {known.embedding_model}, and its vectors cannot be mixed with those of another.",
            param="model",
            hint="Take another name: --collection NAME",
        )


def _remarks(rows: list[dict[str, Any]]) -> Counter[str]:
    """What is to be said of the documents that were added; the same of many is said once."""
    new = (remark for row in rows if row["state"] == "added" for remark in row["notes"])
    alike: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for remark in new:
        first = alike.setdefault(re.sub(r"\d+", "0", remark), remark)
        counted[first] += 1
    return counted


def _added(collections: Collections, where: tuple[str, str], file: Path) -> dict[str, Any]:
    """Take one file in; what became of it."""
    from madang.rag.files import read_file
    from madang.rag.parsing import parse_document

    owner, name = where
    source = str(file)
    try:
        content, digest = read_file(file)
        stored, state = collections.unchanged(owner, name, source, digest), "unchanged"
        if stored is None:
            document, state = parse_document(file.name, content), "added"
            with _watching(file.name) as progress:
                stored = collections.add(
                    owner, name, document, source, digest, progress=progress, size_bytes=len(content)
                )
    except MadangError as error:
        if isinstance(error, NotFound):  # the collection went away: nothing else can be added either
            raise
        note(f"Not added: {error.message}" + (f" {error.hint}" if error.hint else ""))
        return {"source": source, "state": "failed", "error": error.to_dict()}
    if state == "added":
        note(f"Added {file.name}: {stored.n_chunks} chunks.")
    return {"source": source, "state": state, "document": stored.id, "n_chunks": stored.n_chunks, "notes": stored.notes}


@contextmanager
def _watching(title: str) -> Iterator[AddProgress | None]:
    """A bar on a terminal; elsewhere the line afterwards is enough."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, title)


class _Bar:
    """See AddProgress."""

    def __init__(self, bar: Any, title: str) -> None:
        self._bar, self._title = bar, title
        self._task: Any = None

    def split(self, n_chunks: int) -> None:
        """Show it."""
        self._task = self._bar.add_task(self._title, total=n_chunks)

    def embedded(self, n_chunks: int) -> None:
        """Move it."""
        self._bar.update(self._task, advance=n_chunks)


def _list_documents(found: Any, as_json: bool) -> None:
    if as_json:
        data_json({"documents": [asdict(one) for one in found]})
    elif not found:
        note("There are no documents in it.")
    else:
        rows = [
            [one.title, str(one.n_chunks), format_count(one.n_characters), _when(one.added_at), one.source]
            for one in found
        ]
        data_table([["TITLE", "CHUNKS", "CHARACTERS", "ADDED", "SOURCE"], *rows], right=[1, 2])


def _when(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _shown(hit: Hit) -> str:
    from madang.rag.grounding import heading_of

    scores = [f"score {hit.score:.4f}"]
    scores += [] if hit.dense_score is None else [f"cosine {hit.dense_score:.2f}"]
    scores += [] if hit.lexical_score is None else [f"words {hit.lexical_score:.1f}"]
    chunk = hit.chunk
    place = heading_of(chunk.title, chunk.headings, chunk.page)
    text = " ".join(chunk.text.split())
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return (
        f"{hit.rank}. {place}{'' if chunk.page is None else f', p. {chunk.page}'}  ({', '.join(scores)})\n   {shown}\n"
    )


def _as_source(name: str) -> str:
    """A path as it was given when it was added; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
