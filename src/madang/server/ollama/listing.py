"""What there is and what it is: GET /api/tags, /api/ps, /api/version, POST /api/show, and the liveness line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from madang.core.errors import ModelNotFound
from madang.core.messages import Message
from madang.models import Manifest, ModelFiles, Preset, Store, parse_reference
from madang.models.parameters import written
from madang.models.references import FileReference
from madang.server.bridge import in_thread
from madang.server.describing import ModelFacts, facts_of
from madang.server.names import find_reference, shown
from madang.server.ollama.answering import timestamp
from madang.server.ollama.body import Fields
from madang.server.ollama.responding import body_of, state_of
from madang.server.scopes import is_visible
from madang.server.state import ServerState

router = APIRouter(tags=["ollama"])

ALIVE: Final = "Ollama is running"  # some clients compare it
# What clients require of a server before they use what came later; ours does what that version did.
API_VERSION: Final = "0.32.0"
FOREVER: Final = timedelta(days=365 * 100)
SHOW: Final = Fields(
    honoured=("model", "name", "verbose"),
    refused=dict.fromkeys(("system", "template", "options"), "a model is shown as it is; change it with /api/create"),
)


@router.api_route("/", methods=["GET"], include_in_schema=False)
@router.api_route("/", methods=["HEAD"], include_in_schema=False)
async def alive() -> Response:
    """The line that liveness probes look for; a browser gets the page before it comes here."""
    return PlainTextResponse(ALIVE)


@router.get("/api/version")
@router.head("/api/version", include_in_schema=False)
async def version() -> dict[str, str]:
    """The version of Ollama's API that is spoken here; clients read it as numbers."""
    return {"version": API_VERSION}


@router.get("/api/tags")
@router.head("/api/tags", include_in_schema=False)
async def tags(http: HttpRequest) -> Response:
    """Every model of the store."""
    rows = await in_thread(partial(_tags, state_of(http).store))
    return JSONResponse({"models": [row for name, row in rows if is_visible(name)]})


@router.get("/api/ps")
@router.head("/api/ps", include_in_schema=False)
async def ps(http: HttpRequest) -> Response:
    """Every model in memory."""
    rows = await in_thread(partial(_ps, state_of(http)))
    return JSONResponse({"models": [row for name, row in rows if is_visible(name)]})


@router.post("/api/show", openapi_extra=SHOW.described("model"))
async def show(http: HttpRequest) -> Response:
    """What a model is."""
    body, state = await body_of(http), state_of(http)
    warnings = SHOW.check(body.fields)
    name = body.require_text("model", "name")
    reference = find_reference(name, state.store)
    files = await in_thread(partial(state.store.find, reference))
    if files is None:
        raise ModelNotFound(name, list(map(shown, _visible(state.store))))
    return JSONResponse(await in_thread(partial(_show, state.store, files, warnings, bool(body.flag("verbose")))))


def _tags(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """With the name that each is known by here."""
    newest_first = sorted(store.list(), key=lambda files: files.modified, reverse=True)
    return [(files.name, _row(files, store) | {"modified_at": timestamp(files.modified)}) for files in newest_first]


def _row(files: ModelFiles, store: Store) -> dict[str, Any]:
    facts, name = facts_of(files), shown(files.name)
    manifest = _manifest(store, files)
    return {
        "name": name,
        "model": name,
        "size": files.size_bytes,
        "digest": _digest(manifest.to_json() if manifest is not None else files.source),
        "details": _details(files, facts, None if manifest is None else manifest.preset),
        "capabilities": list(facts.capabilities),
    }


def _ps(state: ServerState) -> list[tuple[str, dict[str, Any]]]:
    """With the name that each is known by here."""
    rows = []
    for resident in state.pool.resident():
        files = _files(state.store, resident.reference)
        row = _row(files, state.store) if files is not None else _bare_row(resident.reference)
        expires_at = resident.expires_at or datetime.now(UTC) + FOREVER  # clients read a date, whatever happens
        row |= {
            "size": resident.size_bytes,
            "size_vram": 0,
            "expires_at": timestamp(expires_at),
            "context_length": resident.info.context_tokens,
            "madang": {"engine": resident.info.engine, "reason": resident.reason, "leases": resident.n_leases},
        }
        rows.append((resident.reference, row))
    return rows


def _bare_row(reference: str) -> dict[str, Any]:
    """For engines that need no files."""
    details = {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": ""}
    return {
        "name": reference,
        "model": reference,
        "digest": _digest(reference),
        "details": details | {"quantization_level": ""},
        "capabilities": ["completion"],
    }


def _visible(store: Store) -> list[str]:
    return [files.name for files in store.list() if is_visible(files.name)]


def _show(store: Store, files: ModelFiles, warnings: tuple[str, ...], verbose: bool) -> dict[str, Any]:
    manifest, facts = _manifest(store, files), facts_of(files)
    assert manifest is not None
    preset = manifest.preset or Preset()
    document: dict[str, Any] = {
        "license": preset.license or facts.license or "",
        "modelfile": _modelfile(files, manifest, facts),
        "parameters": _parameters(manifest),
        "template": preset.template or facts.template or "",
        "system": preset.system or "",
        "details": _details(files, facts, preset),
        "messages": [_message(message) for message in preset.messages],
        "model_info": _model_info(facts),
        "capabilities": list(facts.capabilities),
        "modified_at": timestamp(files.modified),
    }
    if verbose:
        document["tensors"] = [
            {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)} for tensor in facts.tensors
        ]
    return document | ({"madang": {"warnings": list(warnings)}} if warnings else {})


def _details(files: ModelFiles, facts: ModelFacts, preset: Preset | None) -> dict[str, Any]:
    return {
        "parent_model": shown(preset.parent) if preset is not None and preset.parent is not None else "",
        "format": "gguf" if files.format == "gguf" else "safetensors",
        "family": facts.architecture,
        "families": [facts.architecture],
        "parameter_size": facts.parameter_size,
        "quantization_level": facts.quantization,
        "context_length": facts.context_tokens or 0,
        "embedding_length": facts.embedding_length or 0,
    }


def _model_info(facts: ModelFacts) -> dict[str, Any]:
    """The file's own metadata, with the keys that clients look for even where a file does not have them."""
    arch = facts.architecture
    known = {
        "general.architecture": arch,
        "general.parameter_count": facts.parameters,
        f"{arch}.context_length": facts.context_tokens,
        f"{arch}.embedding_length": facts.embedding_length,
    }
    return dict(facts.metadata) | {name: value for name, value in known.items() if value is not None}


def _parameters(manifest: Manifest) -> str:
    """As ``ollama show --parameters`` prints them: a name and a value on each line."""
    return "\n".join(f"{name:<30} {_quoted(value)}" for name, value in _values(manifest))


def _values(manifest: Manifest) -> list[tuple[str, Any]]:
    preset = manifest.preset or Preset()
    limits = {"num_predict": preset.max_tokens, "num_ctx": preset.context_tokens}
    values = written(preset.sampling.over(manifest.sampling), preset.stop, limits)
    return [(name, value) for name, several in values.items() for value in several]


def _modelfile(files: ModelFiles, manifest: Manifest, facts: ModelFacts) -> str:
    preset = manifest.preset or Preset()
    lines = [f"# To build a new model on this one, begin with: FROM {shown(files.name)}", f"FROM {shown(files.name)}"]
    if preset.template or facts.template:
        lines.append(f'TEMPLATE """{preset.template or facts.template}"""')
    if preset.system:
        lines.append(f'SYSTEM """{preset.system}"""')
    lines += [f"PARAMETER {name} {_quoted(value)}" for name, value in _values(manifest)]
    lines += [f"MESSAGE {message.role} {message.content}" for message in preset.messages]
    if preset.license:
        lines.append(f'LICENSE """{preset.license}"""')
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _message(message: Message) -> Mapping[str, str]:
    return {"role": message.role, "content": message.content}


def _manifest(store: Store, files: ModelFiles) -> Manifest | None:
    reference = parse_reference(files.name)
    return None if isinstance(reference, FileReference) else store.show(reference)


def _files(store: Store, reference: str) -> ModelFiles | None:
    try:
        return store.find(parse_reference(reference))
    except Exception:  # a name that only an engine without files understands
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
