"""The rows of the matrix: what clients do with a server, and what a test must have seen to say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FEATURES: Final[Mapping[str, str]] = {
    "models": "The list of models, and what is told of one of them",
    "chat": "An answer to a conversation, with its usage",
    "stream": "The same text as a stream, piece by piece",
    "stream usage": "Token counts at the end of a stream",
    "seed": "The same answer again with the same seed, which may have 64 bits",
    "tools": "The model calls a function by itself, and goes on with its result",
    "tool choice": "A call that must come, held to the function's schema",
    "streamed tools": "A call within a stream",
    "schema": "An answer that is held to a JSON schema",
    "reasoning": "What the model thinks comes apart from what it says",
    "logprobs": "How likely tokens were, and what else might have come",
    "several answers": "`n` answers to one conversation",
    "text": "A text is gone on with, without a chat template",
    "responses": "The Responses API, whole and as a stream",
    "embeddings": "Vectors of texts",
    "token counts": "How long a prompt is, without an answer",
    "management": "Models are made, copied, deleted, loaded and unloaded; one that is here already is pulled",
    "errors": "What is refused raises the client's own exception and says why: no such model, too long, a wrong value",
    "errors in streams": "What fails in the middle of a stream raises in the client, after what had come",
    "keep-alive": "A stream that takes long to begin stays open, and nothing odd arrives",
    "keys": "A server with keys refuses the client without one and takes it with one",
    "cancellation": "A client that leaves gives its place back: the next one is answered",
    "images": "Pictures in a conversation",
}
