"""Work for requests to come, which nobody waits for: it begins only while nothing else runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter

from madang.core.errors import MadangError
from madang.server.visit import VISIT

_log = logging.getLogger("madang.server")


class Background:
    """Tasks by name, one of each at a time."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it once the running request is over, if no other runs then. Failures are told to the log."""
        if name not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._run(name, work))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def close(self) -> None:
        """End what runs."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        visit = VISIT.get()
        if visit is not None and visit.admission.n_running + visit.admission.n_waiting > 0:
            return  # whoever needs it will have it made
        if visit is not None:  # its latencies are not those of the request that it follows
            VISIT.set(replace(visit, arrived_s=perf_counter(), n_leases=0, generations=[]))
        try:
            await work()
        except MadangError as error:
            _log.info(error.message, extra={"background": name})
        except Exception:
            _log.exception("background work failed", extra={"background": name})
