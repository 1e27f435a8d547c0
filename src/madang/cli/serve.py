"""``madang serve``: the models of this machine over HTTP."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data, note
from madang.core.errors import InvalidRequest, MadangError
from madang.core.settings import KEEP_ALIVE_S, Settings

if TYPE_CHECKING:
    from madang.server import ServerState
    from madang.server.security import SecurityConfig

DEFAULT_PORT = 11434  # where clients of Ollama look, so that they need no setting
_BACKLOG = 2048


@options.running(without=["remote_key"])  # its clients name no address
def serve(  # noqa: PLR0913  (a command line's options are its parameters)
    *,
    settings: Settings,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; all but this machine's need a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = DEFAULT_PORT,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--hosts", metavar="NAME", help="Another name that the server is reached under; again for more."),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option("--origins", metavar="ORIGIN", help="A page that may use it from a browser; again for more."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="Certificate chain for TLS, as PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its private key, as PEM.")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Most memory for all models; unset: what is free.")
    ] = None,
    keep_alive: Annotated[
        float,
        typer.Option("--keep-alive", metavar="S", help="Seconds that an idle model stays in memory; -1 is forever."),
    ] = KEEP_ALIVE_S,
) -> None:
    """Serve models to clients of OpenAI's, Ollama's and Anthropic's APIs, until Ctrl-C. A request loads its model."""
    settings = settings.for_all_models()
    budget_bytes = None if memory is None else options.n_bytes(memory, "memory")
    tls = _tls(certificate, key)

    from madang.models import Store
    from madang.runtime import Pool
    from madang.server import ServerState
    from madang.server.keys import KeyFile
    from madang.server.security import SecurityConfig, check_bind
    from madang.server.tracing import open_traces

    security = SecurityConfig(KeyFile(settings.home), host, tuple(hosts or ()), tuple(origins or ()))
    check_bind(security)
    traces = open_traces(settings)
    with listen(host, port) as listener:
        pool = Pool(settings, budget_bytes=budget_bytes, keep_alive_s=keep_alive)
        state = ServerState(pool=pool, store=Store(settings.home), settings=settings, security=security, traces=traces)
        _run(state, listener, tls)


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to. Raises InvalidRequest when there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidRequest(f"There is no address '{host}' to listen on.", param="host") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> InvalidRequest:
    if error.errno == errno.EADDRINUSE:
        who = "another program, perhaps Ollama or another madang" if port == DEFAULT_PORT else "another program"
        return InvalidRequest(
            f"Port {port} of {host} is taken by {who}.",
            param="port",
            hint=f"Stop it, or listen elsewhere: madang serve --port {port + 1 if port < 65535 else 0}",
        )
    if error.errno == errno.EACCES:
        return InvalidRequest(
            f"This user may not listen on port {port}.", param="port", hint="Take a port of 1024 or more."
        )
    return InvalidRequest(f"Nothing can listen on {host}: {error.strerror}.", param="host")


def _run(state: ServerState, listener: socket.socket, tls: tuple[Path, Path] | None) -> None:
    import uvicorn

    from madang.server.app import create_app
    from madang.server.logs import configure_logs
    from madang.server.security import is_loopback
    from madang.server.serving import DrainingServer, PatientProtocol

    configure_logs()
    app = create_app(state)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=None if tls is None else str(tls[0]),
        ssl_keyfile=None if tls is None else str(tls[1]),
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    data(f"{'http' if tls is None else 'https'}://{shown}:{port}")
    if state.security is not None and not is_loopback(state.security.bind):
        note(exposure(state.security, has_tls=tls is not None))
    note("Ready for clients; Ctrl-C stops when running answers are done, a second one at once.")
    DrainingServer(config, app.state.drain).run([listener])


def exposure(security: SecurityConfig, *, has_tls: bool) -> str:
    """Who can reach an open server, and with what."""
    keys = security.keys.list()
    n_managing = sum(key.may_manage for key in keys)
    counted = f"{len(keys)} key{'' if len(keys) == 1 else 's'}, of which {n_managing} may change models"
    line = "TLS is on." if has_tls else "No TLS: keys and prompts can be read on the way unless a proxy encrypts them."
    return f"Other machines can reach this server ({security.bind or 'every address'}). It answers {counted}. {line}"


def _tls(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidRequest("TLS needs both --certificate and --key.", param="certificate")
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:  # of which ssl's own errors are a kind
        raise MadangError(f"{certificate} and {key} make no TLS: {error.strerror or error}.") from error
    return certificate, key
