"""remote: models of other servers, behind the same seam: OpenAI's API and Ollama's.

Main path: :func:`connect` -> RemoteEngine -> wire format of its API (openai.py, ollama.py) -> Connection.
Invariants: a request goes to the address that the user named and nowhere else, redirects included; the key is in one
header of it and in no message; a field of a request is sent, or honoured here, or refused.
"""

from madang.engines.remote.engine import RemoteEngine, connect

__all__ = ["RemoteEngine", "connect"]
