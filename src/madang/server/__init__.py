"""server: models over HTTP, in the words of the clients that people have.

Main path: :func:`create_app` -> a route translates the wire into a :class:`~madang.core.Request` -> a lease of the pool
-> :func:`~madang.server.bridge.events` -> the events are translated back.
Invariants: translations are pure functions; a field of a request is honoured, ignored with a warning, or refused; a
client that goes away takes its generation with it; importing this package imports no web framework.
"""

from madang.server.state import ModelPool, ServerState

__all__ = ["ModelPool", "ServerState"]
