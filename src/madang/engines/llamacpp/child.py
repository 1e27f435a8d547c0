"""The process that owns the model: llama.cpp's server on a port of the loopback interface, for its parent alone.

On stdin comes one line of JSON, the options of ``process.ServerOptions``; the end of stdin, which comes when the parent
dies too, is the end of this process. On stdout goes one line of JSON: ``{"port": n}``, or ``{"error": text}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

from madang.engines.child_process import limit_resources


def main() -> None:
    """Load, say where, and serve until stdin ends."""
    # Waiting threads sleep. Where others compute too, spinning ones take their time, and an answer takes ten times it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when the library is loaded
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; when to end is the parent's to say
        signal.signal(stop, signal.SIG_IGN)
    options = json.loads(sys.stdin.readline())
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else writes to stdout
    limit_resources(options["data_limit_bytes"], file_bytes=0)
    server = None
    try:
        server = _serve(options)
        told = {"port": urlsplit(server.listening_address).port}
    except (RuntimeError, MemoryError) as error:
        told = {"error": str(error) or type(error).__name__}
    answer.write(json.dumps(told) + "\n")
    answer.flush()
    if server is not None:
        sys.stdin.read()
    os._exit(0)  # without waiting for requests that nobody reads any more


def _serve(options: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.n_ctx = options["context_tokens"] * options["n_slots"]
    params.n_parallel = options["n_slots"]
    params.kv_unified = False  # each slot has a whole context
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = options["threads"]
        threads.poll = 0
    if options["kv_type"] == "int8":
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.fit_params = False  # the plan is made; layers go to the GPU, where the build has one, as llama.cpp sees fit
    params.cache_ram_mib = 0  # memory that no plan knows of
    params.port = 0
    params.api_keys = [options["key"]]
    params.ui = params.endpoint_slots = params.endpoint_metrics = False
    params.warmup = False
    params.verbosity = -1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
