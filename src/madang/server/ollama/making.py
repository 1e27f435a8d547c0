"""Models that clients make, copy and delete: /api/create, /api/copy, /api/delete, /api/blobs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from madang.core.errors import ChecksumMismatch, InvalidRequest, ModelNotFound
from madang.models import Preset, Store, StoredReference, adopt, copy_model, derive
from madang.models.parameters import read_parameters
from madang.server.bridge import in_thread
from madang.server.line_stream import whole
from madang.server.names import find_reference, new_reference
from madang.server.ollama.asking import read_messages
from madang.server.ollama.body import Body, Fields
from madang.server.ollama.responding import body_of, state_of, streamed
from madang.server.scopes import MANAGES

router = APIRouter(tags=["ollama"])

MAX_TEXT_CHARACTERS: Final = 256 * 1024  # a manifest holds them
CHECK_BYTES: Final = 64 << 20  # between two looks at the free space of the disk
_OLD: Final = "madang reads no Modelfiles; send its parts as 'from', 'system', 'parameters' and 'messages'"
CREATE: Final = Fields(
    honoured=("model", "name", "from", "files", "adapters", "license", "system", "parameters", "messages", "stream"),
    refused={
        "template": "madang runs the template in the model's own file; it does not read Go's template language",
        "quantize": "this server does not quantize models",
        "modelfile": _OLD,
        "path": _OLD,
    },
)
COPY: Final = Fields(("source", "destination"))
DELETE: Final = Fields(("model", "name"))


@router.post("/api/create", dependencies=[MANAGES], openapi_extra=CREATE.described("model"))
async def create(http: HttpRequest) -> Response:
    """Make a model from another one, or from uploaded files."""
    body, state = await body_of(http), state_of(http)
    warnings = CREATE.check(body.fields)
    name = new_reference(body.require_text("model", "name"))
    preset, more = read_preset_of(body)
    lines = _create(state.store, body, name, preset, (*warnings, *more))
    if body.flag("stream") in (None, True):
        return await streamed(http, lines)
    return JSONResponse((await whole(http, lines))[-1])


@router.post("/api/copy", dependencies=[MANAGES], openapi_extra=COPY.described("source", "destination"))
async def copy(http: HttpRequest) -> Response:
    """The same model under a second name."""
    body, store = await body_of(http), state_of(http).store
    COPY.check(body.fields)
    source, destination = body.require_text("source"), body.require_text("destination")
    await in_thread(partial(copy_model, store, find_reference(source, store), new_reference(destination)))
    return Response(status_code=200)


@router.delete("/api/delete", dependencies=[MANAGES], openapi_extra=DELETE.described("model"))
async def delete(http: HttpRequest) -> Response:
    """Forget a model; its files go when no other model needs them. Who uses it now may finish."""
    body, state = await body_of(http), state_of(http)
    DELETE.check(body.fields)
    reference = find_reference(body.require_text("model", "name"), state.store)
    await in_thread(partial(state.pool.unload, str(reference)))
    await in_thread(partial(state.store.remove, reference))
    return Response(status_code=200)


@router.head("/api/blobs/{digest}", dependencies=[MANAGES])
async def has_blob(digest: str, http: HttpRequest) -> Response:
    """Whether content is here: 200 or 404."""
    path = state_of(http).store.find_content(digest)
    return Response(status_code=404 if path is None else 200)


@router.post("/api/blobs/{digest}", dependencies=[MANAGES])
async def put_blob(digest: str, http: HttpRequest) -> Response:
    """Take content in, if it has the digest that it comes under: 201, or 200 when it was here."""
    store = state_of(http).store
    if store.find_content(digest) is not None:
        return Response(status_code=200)
    await _take_in(http, store, digest)
    return Response(status_code=201)


def read_preset_of(body: Body) -> tuple[Preset, tuple[str, ...]]:
    """What a new model adds, and what of it has no effect. Raises InvalidRequest."""
    parameters = read_parameters(body.mapping("parameters"))
    messages, warnings = read_messages(body.entries("messages"))
    preset = Preset(
        system=body.text("system") or None,
        messages=messages,
        sampling=parameters.sampling,
        stop=parameters.stop,
        max_tokens=parameters.max_tokens,
        context_tokens=parameters.context_tokens,
        license=_license(body.fields.get("license")),
        adapter=_adapter(body),
    )
    n_characters = sum(len(text or "") for text in (preset.system, preset.license, *(m.content for m in messages)))
    if n_characters > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"System prompt, messages and licence have {n_characters} characters, at most {MAX_TEXT_CHARACTERS}.",
            param="system",
        )
    return preset, (*parameters.warnings, *warnings)


def _adapter(body: Body) -> str | None:
    digests = list(body.mapping("adapters").values())
    if not digests:
        return None
    if len(digests) > 1 or not isinstance(digests[0], str):
        raise InvalidRequest("A model takes one adapter, a GGUF file, by its digest.", param="adapters")
    if not body.fields.get("from"):
        raise InvalidRequest("An adapter needs the model 'from' which it was trained.", param="adapters")
    return digests[0]


def _license(value: object) -> str | None:
    texts = [value] if isinstance(value, str) else value
    if texts is None:
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("'license' is a text or a list of texts.", param="license")
    return "\n".join(texts) or None


async def _create(
    store: Store, body: Body, name: StoredReference, preset: Preset, warnings: tuple[str, ...]
) -> AsyncGenerator[dict[str, Any], None]:
    """What cannot be made fails before the first line."""
    parent, files = body.text("from"), body.mapping("files")
    if bool(parent) == bool(files):
        raise InvalidRequest("A model is made 'from' another one, or of 'files': give one of them.", param="from")
    if parent:
        reference = find_reference(parent, store)
        if store.find(reference) is None:
            raise ModelNotFound(parent, hint="Pull it first.")
        used = [f"{file.digest or file.name}" for file in store.show(reference).files]
        await in_thread(partial(derive, store, reference, name, preset))
    else:
        if not all(isinstance(digest, str) for digest in files.values()):
            raise InvalidRequest("'files' maps names to digests.", param="files")
        used = list(files.values())
        await in_thread(partial(adopt, store, files, name, preset))
    for digest in used:
        yield {"status": f"using existing layer {digest}"}
    yield {"status": "writing manifest"}
    yield {"status": "success"} | ({"madang": {"warnings": list(warnings)}} if warnings else {})


async def _take_in(http: HttpRequest, store: Store, digest: str) -> None:
    """Stream a body to the disk and compare it; nothing is kept of one that is wrong, too long, or cut off."""
    target = store.upload_path(digest)
    expected = store.blob_path(digest).name.removeprefix("sha256-")
    length = http.headers.get("content-length", "")
    store.require_space(int(length) if length.isascii() and length.isdigit() else CHECK_BYTES)
    partial_path = target.with_name(token_hex(8))
    with store.within_disk(CHECK_BYTES):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            actual = await _write(http, store, partial_path)
            if actual != expected:
                raise _WrongContent(digest, expected, actual)
            await in_thread(partial(partial_path.replace, target))
        finally:
            partial_path.unlink(missing_ok=True)


async def _write(http: HttpRequest, store: Store, path: Path) -> str:
    """The sha256 of what was written."""
    sha256, unchecked_bytes = hashlib.sha256(), 0
    with path.open("wb") as file:
        async for chunk in http.stream():
            unchecked_bytes += len(chunk)
            if unchecked_bytes >= CHECK_BYTES:
                store.require_space(CHECK_BYTES)
                unchecked_bytes = 0
            sha256.update(chunk)
            file.write(chunk)
    return sha256.hexdigest()


class _WrongContent(InvalidRequest, ChecksumMismatch):
    """A client's mistake, not a source's."""

    code = "checksum_mismatch"

    def __init__(self, digest: str, expected: str, actual: str) -> None:
        ChecksumMismatch.__init__(self, f"The content for {digest[:16]}…", expected, actual)
        self.hint = "Compute the digest again, then upload again."
        self.param = "digest"
