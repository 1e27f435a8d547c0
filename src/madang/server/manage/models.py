"""Models: those of the store, those in memory, and how one would be loaded."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from madang.core.errors import ModelNotFound
from madang.core.sampling import SamplingParams
from madang.engines import choose_engine
from madang.hardware import Choice, Plan
from madang.models import Manifest, ModelFiles, Preset, Store, StoredReference
from madang.runtime import plan_for
from madang.server.bridge import in_thread, leased, while_connected
from madang.server.describing import ModelFacts, facts_of
from madang.server.manage.documents import models as wire
from madang.server.manage.documents.base import Sentence
from madang.server.names import as_leased, find_reference
from madang.server.scopes import MANAGES, is_visible
from madang.server.state import ServerState
from madang.server.wire import State

router = APIRouter()


@router.get("/models")
async def list_models(state: State) -> wire.Models:
    """Every model of the store."""
    models = await in_thread(partial(_models, state.store))
    return wire.Models(models=[model for model in models if is_visible(model.name)])


@router.get("/models/{name:path}")
async def show_model(name: str, state: State) -> wire.WholeModel:
    """One model, with everything that its files say."""
    return await in_thread(partial(_whole, state.store, find_reference(name, state.store)))


@router.delete("/models/{name:path}", dependencies=[MANAGES])
async def remove_model(name: str, state: State) -> wire.Removed:
    """Forget a model; its files go when no other model needs them. Who uses it now may finish."""
    return await in_thread(partial(_remove, state, find_reference(name, state.store)))


@router.get("/plans/{name:path}")
async def show_plan(name: str, state: State) -> wire.ModelPlan:
    """How a model would be loaded now: each setting with its reason."""
    return await in_thread(partial(_plan, state, find_reference(name, state.store)))


@router.get("/resident")
async def list_resident(state: State) -> wire.ResidentModels:
    """Every model in memory."""
    resident = await in_thread(state.pool.resident)
    return wire.ResidentModels(models=[_resident(one) for one in resident if is_visible(one.reference)])


@router.post("/resident", dependencies=[MANAGES])
async def load_model(wanted: wire.LoadRequest, state: State, http: HttpRequest) -> wire.ResidentModel:
    """Load a model before it is asked for; answers when it is in memory. One that is there already stays."""
    reference = find_reference(wanted.model, state.store)
    return await while_connected(http, _load(state, as_leased(wanted.model, reference), reference, wanted.keep_alive_s))


@router.delete("/resident/{name:path}", dependencies=[MANAGES])
async def unload_model(name: str, state: State) -> wire.Unloaded:
    """Give a model up; who uses it now may finish."""
    reference = str(find_reference(name, state.store))
    if not await in_thread(partial(state.pool.unload, reference)):
        raise ModelNotFound(reference, hint="It is not in memory.")
    return wire.Unloaded(name=reference)


async def _load(
    state: ServerState, leasable: str, reference: StoredReference, keep_alive_s: float | None
) -> wire.ResidentModel:
    async with leased(state.pool, leasable, keep_alive_s=keep_alive_s) as loaded:
        resident = await in_thread(state.pool.resident)
        # A derived model is in memory under the name of what it was made from.
        found = next((one for one in resident if one.reference == str(reference) or one.info is loaded.info), None)
    if found is None:
        raise ModelNotFound(str(reference), hint="It was unloaded again.")
    return _resident(found)


def _models(store: Store) -> list[wire.Model]:
    return [wire.Model(**_row(files, facts_of(files))) for files in store.list()]


def _row(files: ModelFiles, facts: ModelFacts) -> dict[str, Any]:
    return {
        "name": files.name,
        "format": files.format,
        "size_bytes": files.size_bytes,
        "modified_at": files.modified,
        "source": files.source,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "quantization": facts.quantization,
        "context_tokens": facts.context_tokens,
        "capabilities": list(facts.capabilities),
    }


def _whole(store: Store, reference: StoredReference) -> wire.WholeModel:
    files, manifest = _found(store, reference)
    facts = facts_of(files)
    own = [wire.File(name=file.name, size_bytes=file.size_bytes, digest=file.digest) for file in manifest.files]
    return wire.WholeModel(
        **_row(files, facts),
        files=own,
        sampling=_set(manifest.sampling),
        preset=None if manifest.preset is None else _preset(manifest.preset),
        license=facts.license if manifest.preset is None else manifest.preset.license or facts.license,
        chat_template=facts.template,
        metadata=dict(facts.metadata),
    )


def _found(store: Store, reference: StoredReference) -> tuple[ModelFiles, Manifest]:
    files = store.find(reference)
    if files is None:
        raise store.lost(reference) or ModelNotFound(str(reference))
    return files, store.show(reference)


def _preset(preset: Preset) -> wire.ModelPreset:
    return wire.ModelPreset(
        parent=preset.parent,
        system=preset.system,
        messages=[wire.Turn(role=message.role, content=message.content) for message in preset.messages],
        stop=list(preset.stop),
        max_tokens=preset.max_tokens,
        context_tokens=preset.context_tokens,
        sampling=_set(preset.sampling),
    )


def _set(sampling: SamplingParams) -> dict[str, Any]:
    return {name: value for name, value in asdict(sampling).items() if value is not None}


def _remove(state: ServerState, reference: StoredReference) -> wire.Removed:
    state.pool.unload(str(reference))
    return wire.Removed(name=str(reference), freed_bytes=state.store.remove(reference))


def _plan(state: ServerState, reference: StoredReference) -> wire.ModelPlan:
    files, _ = _found(state.store, reference)
    engine = choose_engine(files.format, state.settings.engine)
    plan = plan_for(files, state.settings)
    memory = None
    if plan.memory is not None:
        memory = wire.Memory(**asdict(plan.memory), total_bytes=plan.memory.total_bytes)
    return wire.ModelPlan(
        name=files.name,
        engine=engine.entry.name,
        engine_reason=engine.reason,
        engine_told=Sentence.of(engine.reason),
        choices=_choices(plan),
        memory=memory,
    )


def _choices(plan: Plan) -> list[wire.Choice]:
    values = ((field.name, getattr(plan, field.name)) for field in fields(plan))
    return [
        wire.Choice(name=name, value=choice.value, reason=choice.reason, told=Sentence.of(choice.reason))
        for name, choice in values
        if isinstance(choice, Choice)
    ]


def _resident(resident: Any) -> wire.ResidentModel:
    return wire.ResidentModel(
        name=resident.reference,
        engine=resident.info.engine,
        context_tokens=resident.info.context_tokens,
        max_concurrency=resident.info.max_concurrency,
        load_s=resident.info.load_s,
        size_bytes=resident.size_bytes,
        loaded_at=resident.loaded_at,
        expires_at=resident.expires_at,
        leases=resident.n_leases,
        reason=resident.reason,
    )
