"""``/v1/models``: which models can be asked for, and how much they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from madang.core.errors import InvalidReference, ModelNotFound
from madang.models import ModelFiles
from madang.server.describing import ModelFacts, facts_of
from madang.server.names import find_reference
from madang.server.scopes import is_visible
from madang.server.state import ServerState


def model_list(state: ServerState) -> dict[str, Any]:
    """Every model of the store that the caller may use."""
    loaded = _loaded_contexts(state)
    visible = (files for files in state.store.list() if is_visible(files.name))
    return {"object": "list", "data": [_model(files, state, loaded) for files in visible]}


def one_model(state: ServerState, name: str) -> dict[str, Any]:
    """The model of that name. Raises ModelNotFound; a path is no name here."""
    known = [files.name for files in state.store.list() if is_visible(files.name)]
    try:
        reference = find_reference(name, state.store)
    except (InvalidReference, ModelNotFound):
        raise ModelNotFound(name, known) from None
    files = state.store.find(reference)
    if files is None or not is_visible(files.name):
        raise ModelNotFound(name, known)
    return _model(files, state, _loaded_contexts(state))


def _loaded_contexts(state: ServerState) -> dict[str, int]:
    return {resident.reference: resident.info.context_tokens for resident in state.pool.resident()}


def _model(files: ModelFiles, state: ServerState, loaded: Mapping[str, int]) -> dict[str, Any]:
    """``max_model_len`` as vLLM has it: of one that is not loaded, the most that it would be opened with."""
    facts = facts_of(files)
    asked, trained = state.settings.context, facts.context_tokens
    most = trained if asked is None or trained is None else min(asked, trained)
    context = {"max_model_len": loaded.get(files.name, most), "meta": _meta(files, facts)}
    return {
        "id": files.name,
        "object": "model",
        "created": int(files.modified.timestamp()),
        "owned_by": "madang",
        **(context if trained is not None else {}),
    }


def _meta(files: ModelFiles, facts: ModelFacts) -> dict[str, int | None]:
    """In the names of llama.cpp's server."""
    return {
        "n_ctx_train": facts.context_tokens,
        "n_embd": facts.embedding_length,
        "n_params": facts.parameters,
        "size": files.size_bytes,
    }
