"""Collections of documents: make, fill, look into, search, remove. A caller reaches its own only."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from madang.core.errors import Forbidden, InvalidRequest
from madang.core.settings import Settings
from madang.rag.embedding import DEFAULT_MODEL
from madang.server.bridge import in_thread
from madang.server.history import caller
from madang.server.library import library_of, opened
from madang.server.manage.documents import collections as wire
from madang.server.manage.ingests import progress_of
from madang.server.names import find_reference, strictly_leasable
from madang.server.scopes import MANAGES
from madang.server.wire import State

if TYPE_CHECKING:
    from madang.rag.stored import Collection, StoredChunk, StoredDocument

router = APIRouter()

NAME_CHARACTERS: Final = 255  # of a file, as most file systems have it
_CHECK_BYTES: Final = 16 << 20  # of an upload between two looks at what is free on the disk


@router.get("/collections")
async def list_collections(http: HttpRequest) -> wire.CollectionStates:
    """The caller's collections."""
    collections = await opened(http)
    found = await in_thread(partial(collections.list, caller()))
    return wire.CollectionStates(collections=[_collection(one) for one in found])


@router.post("/collections", status_code=201)
async def create_collection(wanted: wire.CollectionRequest, http: HttpRequest, state: State) -> wire.CollectionState:
    """Make an empty one. Chat requests that name it (``madang.collection``) are answered from its documents."""
    model = wanted.embedding_model or DEFAULT_MODEL
    find_reference(model, state.store)  # whether this caller may use it
    collections = await opened(http)
    return _collection(await in_thread(partial(collections.create, caller(), wanted.name, model)))


@router.get("/collections/{name}")
async def show_collection(name: str, http: HttpRequest) -> wire.CollectionState:
    """One of them."""
    collections = await opened(http)
    return _collection(await in_thread(partial(collections.get, caller(), name)))


@router.delete("/collections/{name}")
async def remove_collection(name: str, http: HttpRequest) -> wire.RemovedCollection:
    """Delete it with its documents."""
    collections = await opened(http)
    await in_thread(partial(collections.remove, caller(), name))
    library_of(http).ingests.forget(caller(), name)
    return wire.RemovedCollection(name=name)


@router.get("/collections/{name}/documents")
async def list_documents(name: str, http: HttpRequest) -> wire.DocumentStates:
    """The documents of a collection."""
    collections = await opened(http)
    found = await in_thread(partial(collections.documents, caller(), name))
    return wire.DocumentStates(documents=[wire.DocumentState(**_document(one)) for one in found])


@router.post("/collections/{name}/documents", status_code=202, dependencies=[MANAGES])
async def add_path(name: str, wanted: wire.PathRequest, http: HttpRequest, state: State) -> wire.IngestStates:
    """Read a file of the server's machine into a collection, or every document of a folder, in the background.

    Only what lies below one of the folders of the setting ``document_roots``.
    """
    collections = await opened(http)
    await in_thread(partial(collections.get, caller(), name))
    files = await in_thread(partial(_files, state.settings, wanted.path))
    start = partial(library_of(http).ingests.start, caller(), name)
    return wire.IngestStates(ingests=[progress_of(start(str(file), file, size)) for file, size in files])


@router.put(
    "/collections/{name}/documents/{filename}",
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def put_document(name: str, filename: str, http: HttpRequest, state: State) -> wire.IngestProgress:
    """Read the file that is the body into a collection, in the background: in place of one of the same name.

    It goes on when the client leaves. One that is there already, byte for byte, is not read again.
    """
    _check_name(filename)
    collections = await opened(http)
    await in_thread(partial(collections.get, caller(), name))
    file, size_bytes = await _received(http, state)
    try:
        return progress_of(library_of(http).ingests.start(caller(), name, filename, file, size_bytes))
    except BaseException:
        file.close()
        raise


@router.get("/collections/{name}/documents/{id}")
async def show_document(name: str, id: str, http: HttpRequest) -> wire.WholeDocumentState:
    """One document with its text."""
    collections = await opened(http)
    whole = await in_thread(partial(collections.document, caller(), name, id))
    fields = [*wire.ChunkPlace.model_fields]
    chunks = [{field: getattr(chunk, field) for field in fields} for chunk in whole.chunks]
    return wire.WholeDocumentState(
        **_document(whole.document),
        text=whole.text,
        chunks=[wire.ChunkPlace(**chunk | {"headings": list(chunk["headings"])}) for chunk in chunks],
    )


@router.delete("/collections/{name}/documents/{id}")
async def remove_document(name: str, id: str, http: HttpRequest) -> wire.RemovedDocument:
    """Delete one document; nothing of it is found any more."""
    collections = await opened(http)
    await in_thread(partial(collections.remove_document, caller(), name, id))
    return wire.RemovedDocument(id=id)


@router.get("/collections/{name}/chunks/{id}")
async def show_chunk(name: str, id: str, http: HttpRequest) -> wire.ChunkState:
    """What a citation points to."""
    collections = await opened(http)
    return _chunk(await in_thread(partial(collections.chunk, caller(), name, id)))


@router.post("/collections/{name}/search")
async def search_collection(name: str, wanted: wire.SearchRequest, http: HttpRequest, state: State) -> wire.SearchState:
    """The passages that say most about a query, each with its scores."""
    reranker = None if wanted.reranker is None else strictly_leasable(wanted.reranker, state.store)
    collections = await opened(http)
    search = partial(collections.search, caller(), [name], wanted.query, limit=wanted.limit, mode=wanted.mode)
    found = await in_thread(partial(search, document=wanted.document, speaker=wanted.speaker, reranker=reranker))
    return wire.SearchState(
        hits=[
            wire.HitState(
                rank=hit.rank,
                score=hit.score,
                dense_score=hit.dense_score,
                lexical_score=hit.lexical_score,
                rerank_score=hit.rerank_score,
                chunk=_chunk(hit.chunk),
            )
            for hit in found.hits
        ],
        is_relevant=found.is_relevant,
        timings=wire.SearchTimings(**asdict(found.timings)),
    )


def _files(settings: Settings, path: str) -> list[tuple[Path, int]]:
    """The file, or the documents of the folder, with their bytes. Raises Forbidden, NotFound, InvalidRequest."""
    from madang.rag.files import find_files

    roots = [Path(root) for root in (settings.document_roots or "").split(os.pathsep) if root.strip()]
    if not roots:
        raise Forbidden(
            "This server reads no files of its machine.",
            hint="Its owner allows folders with MADANG_DOCUMENT_ROOTS; documents can be uploaded.",
        )
    files = find_files([path], roots=roots).files
    if not files:
        raise InvalidRequest("There is no document in this folder.", param="path")
    return [(file, file.stat().st_size) for file in files]


async def _received(http: HttpRequest, state: State) -> tuple[IO[bytes], int]:
    """The body, in a file without a name, which goes with whoever holds it; and its bytes.

    Raises InvalidRequest for an empty one, NotEnoughDisk.
    """
    folder = state.settings.home
    folder.mkdir(parents=True, exist_ok=True)
    file, n_bytes, unchecked_bytes = tempfile.TemporaryFile(dir=folder), 0, _CHECK_BYTES  # noqa: SIM115
    try:
        async for piece in http.stream():
            if unchecked_bytes >= _CHECK_BYTES:
                state.store.require_space(_CHECK_BYTES)
                unchecked_bytes = 0
            file.write(piece)
            n_bytes += len(piece)
            unchecked_bytes += len(piece)
        if n_bytes == 0:
            raise InvalidRequest("The body is empty; a document is sent as it is, byte for byte.", param="body")
    except BaseException:
        file.close()
        raise
    return file, n_bytes


def _check_name(filename: str) -> None:
    """A file's name as a person would give it; nothing is ever written or looked for under it."""
    if len(filename) > NAME_CHARACTERS or not filename.strip() or not filename.isprintable():
        raise InvalidRequest(
            f"A file's name has 1 to {NAME_CHARACTERS} characters that can be shown.", param="filename"
        )


def _collection(one: Collection) -> wire.CollectionState:
    return wire.CollectionState(**{field: getattr(one, field) for field in wire.CollectionState.model_fields})


def _document(one: StoredDocument) -> dict[str, Any]:
    fields: dict[str, Any] = {field: getattr(one, field) for field in wire.DocumentState.model_fields}
    return fields | {"facts": dict(one.facts), "notes": list(one.notes)}


def _chunk(one: StoredChunk) -> wire.ChunkState:
    fields = {field: value for field, value in asdict(one).items() if field in wire.ChunkState.model_fields}
    return wire.ChunkState(**fields | {"headings": list(one.headings)})
