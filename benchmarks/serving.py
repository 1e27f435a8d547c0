"""What HTTP costs: our server beside our engine, beside llama.cpp's own server, and llama-cpp-python's.

python benchmarks/serving.py MODEL.gguf [--rounds N] [--threads N] [--soak-s N]

first token   seconds to the first token of one client's request, over HTTP and straight from the engine, by turns
aggregate     tokens/s of 1 and of 16 clients, over HTTP, from the engine, and from the other servers
processor     microseconds per token that our server and the clients themselves take, with 16 clients
soak          64 clients for ``--soak-s`` seconds: errors, latencies, and the server's memory before and after

Clients speak HTTP over sockets and look at no more than they must: they share the machine with the servers, so what
they take is missing there. What servers take counts as the share of other processes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from environments import LLAMA_CPP_SERVER, ensure_environment
from madang.native import NativeEngine
from own_engine import at_once, done_of, open_engine, options_of, percentiles, plain, results, spread

MODEL_NAME = "measured"
N_CLIENTS = 16
SOAK_CLIENTS = 64
ANSWER_TOKENS = 96
SOAK_TOKENS = 24
SOAK_SAMPLES = 12  # of the server's memory
CONTEXT_TOKENS = 2048
FIRST_TOKEN_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens, and the name that it knows the model by."""

    port: int
    model: str
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Answered:
    """One streamed completion. ``n_tokens`` as the server counted them."""

    first_token_s: float
    total_s: float
    n_tokens: int


async def complete(server: Server, prompt: str, max_tokens: int) -> Answered:
    """Ask for a completion and read its stream. Raises RuntimeError for any answer but a whole one."""
    wish = {"model": server.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    body = json.dumps(wish | {"stream_options": {"include_usage": True}}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer, first_s = b"", 0.0
        while piece := await reader.read(1 << 16):
            answer += piece
            if first_s == 0.0 and b"data: {" in answer:
                first_s = time.perf_counter() - started
        return Answered(first_s, time.perf_counter() - started, n_tokens_of(answer))
    finally:
        writer.close()


def n_tokens_of(answer: bytes) -> int:
    """How many tokens a whole answer has, its head included. Raises RuntimeError when it is not whole.

    Servers that do not count, as llama-cpp-python's in a stream, send a chunk for each token, and one at the end.
    """
    status = answer.partition(b"\r\n")[0]
    if b" 200 " not in status:
        raise RuntimeError(status.decode(errors="replace") or "no answer")
    if b"data: [DONE]" not in answer:
        raise RuntimeError("the stream broke off")
    chunks = [line.removeprefix(b"data: ") for line in answer.splitlines() if line.startswith(b"data: {")]
    usages = [line for line in chunks if b'"completion_tokens"' in line]
    return json.loads(usages[-1])["usage"]["completion_tokens"] if usages else len(chunks) - 1


@contextmanager
def our_server(options: argparse.Namespace) -> Iterator[Server]:
    """``madang serve`` in a process of its own, with a home that knows nothing but the model."""
    command = [str(Path(sys.executable).with_name("madang")), "serve", "--port", "0", "--threads", str(options.threads)]
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [*command, "--context", str(CONTEXT_TOKENS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"MADANG_HOME": home},
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            upload(address, options.model)
            yield Server(int(address.rpartition(":")[2]), MODEL_NAME, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()


def upload(address: str, model: Path) -> None:
    """As Ollama's clients do: clients cannot name files of the server's machine."""
    content = model.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    wish = {"model": MODEL_NAME, "files": {model.name: digest}, "stream": False}
    for path, body in ((f"blobs/{digest}", content), ("create", json.dumps(wish).encode())):
        with urllib.request.urlopen(urllib.request.Request(f"{address}/api/{path}", body, method="POST")) as answer:
            answer.read()


LLAMA_SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, threads, n_slots, n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
params.n_ctx, params.n_parallel, params.port, params.verbosity = n_ctx * n_slots, n_slots, 0, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_server(options: argparse.Namespace) -> Iterator[Server]:
    """llama.cpp's server, from the wheel xllamacpp."""
    numbers = (str(number) for number in (options.threads, N_CLIENTS, CONTEXT_TOKENS))
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA_SERVER, str(options.model), *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = (line.strip() for line in process.stdout)
        address = next(line for line in lines if line.startswith("http"))
        yield Server(int(address.rpartition(":")[2]), "model", psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


@contextmanager
def llama_cpp_python_server(options: argparse.Namespace) -> Iterator[Server]:
    """llama-cpp-python's server, which answers one request after the other. Raises SetupError without it."""
    ensure_environment(LLAMA_CPP_SERVER)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    numbers = {"port": port, "n_threads": options.threads, "n_threads_batch": options.threads, "n_ctx": CONTEXT_TOKENS}
    named = [part for name, number in numbers.items() for part in (f"--{name}", str(number))]
    command = [str(LLAMA_CPP_SERVER.python), "-m", "llama_cpp.server", "--model", str(options.model), *named]
    # Else a second request ends the one that is being answered.
    with subprocess.Popen(
        [*command, "--interrupt_requests", "False"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(port)
            yield Server(port, str(options.model), psutil.Process(process.pid))
        finally:
            process.kill()


def wait_for(port: int, patience_s: float = 60) -> None:
    """Until something listens there. Raises OSError when nothing does for so long."""
    until = time.perf_counter() + patience_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.perf_counter() > until:
                raise
            time.sleep(0.1)


def prompt_of(kind: str, number: int) -> str:
    """One that no cache has seen."""
    return f"{kind} {number}. Once upon a time"


async def rate(server: Server, n_clients: int, round_: int) -> float:
    """Tokens/s of all clients together."""
    started = time.perf_counter()
    prompts = [prompt_of(f"Round {round_} of {n_clients}, story", number) for number in range(n_clients)]
    answers = await asyncio.gather(*(complete(server, prompt, ANSWER_TOKENS) for prompt in prompts))
    return sum(answer.n_tokens for answer in answers) / (time.perf_counter() - started)


def engine_rate(engine: NativeEngine, n_clients: int, round_: int) -> float:
    """The same without HTTP."""
    started = time.perf_counter()
    requests = [
        plain(prompt_of(f"Round {round_} of {n_clients}, story", number), ANSWER_TOKENS) for number in range(n_clients)
    ]
    done = at_once([partial(lambda request: done_of(engine.generate(request)), request) for request in requests])
    return sum(one.usage.completion_tokens for one in done) / (time.perf_counter() - started)


def cpu_us_per_token(server: Server) -> dict[str, float]:
    """Of the server, engine included, and of its clients. Less noisy than rates on a machine that others use."""
    n_rounds = 3
    before, own_before = server.process.cpu_times(), time.process_time()
    for round_ in range(n_rounds):
        asyncio.run(rate(server, N_CLIENTS, -round_ - 2))
    after, own_s = server.process.cpu_times(), time.process_time() - own_before
    server_s = after.user + after.system - before.user - before.system
    n_tokens = n_rounds * N_CLIENTS * ANSWER_TOKENS
    return {"server": 1e6 * server_s / n_tokens, "clients": 1e6 * own_s / n_tokens}


def engine_first_token_s(engine: NativeEngine, number: int) -> float:
    """Seconds to the first event of a request."""
    started = time.perf_counter()
    events = engine.generate(plain(prompt_of("First token", number), 4))
    next(events)
    seconds = time.perf_counter() - started
    done_of(events)
    return seconds


async def soak(server: Server, seconds: float) -> dict[str, Any]:
    """All clients ask again and again until the time is up."""
    answers: list[Answered] = []
    errors: list[str] = []
    until = time.perf_counter() + seconds
    resident = [server.process.memory_info().rss]

    async def watch() -> None:
        while True:
            await asyncio.sleep(seconds / SOAK_SAMPLES)
            resident.append(server.process.memory_info().rss)

    async def client(number: int) -> None:
        turn = 0
        while time.perf_counter() < until:
            turn += 1
            try:
                answers.append(await complete(server, prompt_of(f"Client {number}, tale", turn), SOAK_TOKENS))
            except (RuntimeError, OSError) as error:
                errors.append(str(error))

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(client(number) for number in range(SOAK_CLIENTS)))
    watching.cancel()
    return {
        "seconds": seconds,
        "requests": len(answers),
        "errors": errors[:10],
        "n_errors": len(errors),
        "first_token_s": percentiles(answer.first_token_s for answer in answers),
        "total_s": percentiles(answer.total_s for answer in answers),
        "tokens_per_s": sum(answer.n_tokens for answer in answers) / seconds,
        "resident_bytes": resident,  # before, and as the time goes by
    }


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Servers and engine by turns, so that each meets the same machine."""
    counts = (1, N_CLIENTS)
    others = {"llama.cpp": llama_server, "llama-cpp-python": llama_cpp_python_server}
    rates: dict[str, dict[int, list[float]]] = {name: {n: [] for n in counts} for name in ("http", "engine", *others)}
    with our_server(options) as ours, closing(open_engine(options, context=CONTEXT_TOKENS)) as engine:
        asyncio.run(complete(ours, "Load", 4))
        engine_rate(engine, 2, -1)
        firsts: dict[str, list[float]] = {"http": [], "engine": []}
        for number in range(FIRST_TOKEN_REQUESTS):
            firsts["http"].append(asyncio.run(complete(ours, prompt_of("First token", number), 4)).first_token_s)
            firsts["engine"].append(engine_first_token_s(engine, number))
        for round_ in range(options.rounds):
            for n in counts:
                rates["http"][n].append(asyncio.run(rate(ours, n, round_)))
                rates["engine"][n].append(engine_rate(engine, n, round_))
        document["first_token_s"] = {name: percentiles(found) for name, found in firsts.items()}
        document["cpu_us_per_token"] = cpu_us_per_token(ours)
        document["soak"] = asyncio.run(soak(ours, options.soak_s))
    for name, serve in others.items():
        with serve(options) as theirs:
            asyncio.run(complete(theirs, "Load", 4))
            for round_ in range(options.rounds):
                for n in counts:
                    rates[name][n].append(asyncio.run(rate(theirs, n, round_)))
    document["tokens_per_s"] = {
        name: {str(n): spread(found) for n, found in of_server.items()} for name, of_server in rates.items()
    }


def show(document: dict[str, Any]) -> None:
    """The medians, and their ratios."""
    http, engine = (document["first_token_s"][name]["p50"] for name in ("http", "engine"))
    print(f"first token {http * 1e3:.1f} ms over HTTP, {engine * 1e3:.1f} ms from the engine")
    for name, found in document["tokens_per_s"].items():
        words = ", ".join(f"{n} clients {value['median']:.0f}" for n, value in found.items())
        print(f"{name}: {words} tokens/s")
    many = [document["tokens_per_s"][name][str(N_CLIENTS)]["median"] for name in ("http", "engine")]
    print(f"{N_CLIENTS} clients over HTTP have {many[0] / many[1]:.0%} of the engine's rate")
    found = document["soak"]
    print(
        f"{SOAK_CLIENTS} clients for {found['seconds']} s: {found['requests']} answers, {found['n_errors']} errors, "
        f"first token p50 {found['first_token_s']['p50']:.2f} s, p99 {found['first_token_s']['p99']:.2f} s, resident "
        f"{', '.join(f'{n_bytes / 1e6:.0f}' for n_bytes in found['resident_bytes'])} MB"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = options_of("serving", arguments, __doc__ or "", soak_s=120)
    with results(options) as document:
        measure(options, document)
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
