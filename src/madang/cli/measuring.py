"""What commands measure of this machine before they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from madang.cli.console import note
from madang.core.errors import NotEnoughMemory

if TYPE_CHECKING:
    from madang.hardware import Bandwidth, Machine


def measured_bandwidth(machine: Machine) -> Bandwidth | None:
    """How fast memory is read, with a word to whoever waits; None where too little of it is free to tell."""
    from madang.hardware import choose_buffer_bytes, measure_read_bandwidth

    note("Measuring how fast memory is read…")
    try:
        buffer_bytes = choose_buffer_bytes(machine)
    except NotEnoughMemory as error:
        note(f"{error.message} Speeds stay unknown.")
        return None
    return measure_read_bandwidth(machine.physical_cores or 1, buffer_bytes=buffer_bytes)
