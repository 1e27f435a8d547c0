"""Starts a server, and ends it with all its processes when stdin ends, which it does when our parent dies, too.

On stdin comes one line of JSON: ``command``, ``environment`` (more of it) and ``data_limit_bytes``. On stdout goes one:
``{"pid": n}``, or ``{"error": text}``. It ends when the server does, with its status.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Final

from madang.engines.child_process import limit_resources

_END_S: Final = 3.0  # from being asked to end until being killed; our parent waits longer


def main() -> None:
    """Start it, say so, and wait for whichever ends first."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; when to end is the parent's to say
        signal.signal(stop, lambda *_: None)  # one that is ignored would be ignored by the server, too
    options = json.loads(sys.stdin.readline())
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the server writes to stdout
    limit_resources(options["data_limit_bytes"])
    environment = {**os.environ, **options["environment"]}
    try:
        server = subprocess.Popen(options["command"], env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        _tell(answer, {"error": f"{options['command'][0]}: {error.strerror}"})
        return
    _tell(answer, {"pid": server.pid})
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    status = server.wait()
    _signal_all(server, kill=True)  # what it left behind
    os._exit(status if status >= 0 else 128 - status)  # as shells count


def _tell(answer: IO[str], record: dict[str, Any]) -> None:
    print(json.dumps(record), file=answer, flush=True)


def _end_with_parent(server: subprocess.Popen[bytes]) -> None:
    sys.stdin.read()
    _signal_all(server, kill=False)
    with suppress(subprocess.TimeoutExpired):
        server.wait(_END_S)
    _signal_all(server, kill=True)


def _signal_all(server: subprocess.Popen[bytes], *, kill: bool) -> None:
    """To its whole session; Windows knows the one process only."""
    if sys.platform == "win32":
        server.kill() if kill else server.terminate()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL if kill else signal.SIGTERM)


if __name__ == "__main__":
    main()
