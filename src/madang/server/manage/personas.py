"""Personas: keep, list, show, remove. A caller reaches its own only."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from fastapi import APIRouter

from madang.chat import Persona
from madang.server.bridge import in_thread
from madang.server.history import Kept, caller
from madang.server.manage.documents import personas as wire

router = APIRouter()


@router.get("/personas")
async def list_personas(history: Kept) -> wire.PersonaStates:
    """The caller's personas."""
    found = await in_thread(partial(history.personas.list, caller()))
    return wire.PersonaStates(personas=[_state(persona) for persona in found])


@router.post("/personas", status_code=201)
async def put_persona(wanted: wire.PersonaState, history: Kept) -> wire.PersonaState:
    """Keep a persona, in place of one of the same name. Sessions that name it are answered so."""
    persona = Persona(
        name=wanted.name,
        style=wanted.style,
        system=wanted.system,
        model=wanted.model,
        collections=tuple(wanted.collections),
    )
    await in_thread(partial(history.personas.put, caller(), persona))
    return _state(persona)


@router.get("/personas/{name}")
async def show_persona(name: str, history: Kept) -> wire.PersonaState:
    """One of them."""
    return _state(await in_thread(partial(history.personas.get, caller(), name)))


@router.delete("/personas/{name}")
async def remove_persona(name: str, history: Kept) -> wire.RemovedPersona:
    """Forget it."""
    await in_thread(partial(history.personas.remove, caller(), name))
    return wire.RemovedPersona(name=name)


def _state(persona: Persona) -> wire.PersonaState:
    return wire.PersonaState(**asdict(persona) | {"collections": list(persona.collections)})
