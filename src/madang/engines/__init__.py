"""engines: how models run. A table of engines, and those that are not our own.

Main path: :func:`choose_engine` -> :meth:`EngineEntry.loader` -> ``load(files, plan)`` -> Engine.
Invariants: an engine is imported when it is loaded and not before; it never downloads, never chooses settings, never
reads the environment; every one passes ``tests/conformance``.
"""

from madang.engines.table import ENGINES, EngineChoice, EngineEntry, choose_engine, engine_entries, find_engine

__all__ = ["ENGINES", "EngineChoice", "EngineEntry", "choose_engine", "engine_entries", "find_engine"]
