"""What the server is and what it runs on."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from fastapi import APIRouter

from madang.core.settings import Settings
from madang.engines import engine_entries
from madang.hardware import largest_model_bytes, probe_machine
from madang.server.bridge import in_thread
from madang.server.manage.documents import machine as wire
from madang.server.scopes import MANAGES
from madang.server.wire import State

router = APIRouter()


@router.get("/version")
async def show_version(state: State) -> wire.Version:
    """The server's version, and since when it runs."""
    return wire.Version(version=state.version, started_at=state.started_at)


@router.get("/machine", dependencies=[MANAGES])
async def show_machine(state: State) -> wire.Machine:
    """The machine, the engines, and the settings with where each came from."""
    return await in_thread(partial(_machine, state.settings))


def _machine(settings: Settings) -> wire.Machine:
    machine = probe_machine(settings.home)
    engines = [
        wire.EngineState(
            name=entry.name, is_installed=entry.is_installed(), formats=list(entry.formats), install=entry.install
        )
        for entry in engine_entries()
    ]
    rows = [
        wire.Setting(name=setting.name, value=None if value is None else str(value), origin=origin)
        for setting, value, origin in settings.rows()
    ]
    return wire.Machine(
        machine=asdict(machine),
        engines=engines,
        settings=rows,
        largest_model_bytes=largest_model_bytes(machine.ram_available_bytes),
    )
