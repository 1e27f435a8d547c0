"""What an answer's facts are called on OpenAI's wire: usage, timings, probabilities, calls."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madang import __version__
from madang.core.events import Done, TokenLogprob
from madang.core.messages import ToolCall
from madang.server.ledger import ledger_of

FINGERPRINT = f"madang-{__version__}"

# JSON has no infinity, and clients of this API know this number for it.
_NEVER = -9999.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What all pieces of one answer have in common; ``model`` is the name that the client used."""

    object: str
    model: str
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self) -> dict[str, Any]:
        """The fields that every piece begins with."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def new_id(prefix: str) -> str:
    """An id that nobody guesses and no two answers share."""
    return prefix + secrets.token_hex(12)


def usage_of(dones: Sequence[Done]) -> dict[str, Any]:
    """Several answers to one prompt read it once."""
    prompt_tokens = dones[0].usage.prompt_tokens
    completion_tokens = sum(done.usage.completion_tokens for done in dones)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": dones[0].usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": sum(done.usage.reasoning_tokens for done in dones)},
    }


def timings_of(done: Done) -> dict[str, Any]:
    """In the names of llama.cpp's server, which tools read. The first token counts as the prompt's."""
    timings = done.timings
    facts = {
        "cache_n": done.usage.cached_tokens,
        "prompt_n": timings.prompt_tokens_read,
        "prompt_ms": timings.prompt_s * 1000,
        "prompt_per_second": timings.prompt_tokens_per_s,
        "predicted_n": done.usage.completion_tokens,
        "predicted_ms": timings.decode_s * 1000,
        "predicted_per_second": timings.decode_tokens_per_s,
    }
    if timings.drafted_tokens:
        facts |= {"draft_n": timings.drafted_tokens, "draft_n_accepted": timings.accepted_tokens}
    return facts


def extras_of(done: Done, warnings: Sequence[str], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the schema does not know and clients leave alone: speed, where the tokens went, and ``facts`` beside that,
    which may have ``warnings`` of their own."""
    facts = {} if facts is None else facts
    told = ledger_of(done, [*warnings, *facts.get("warnings", ())])
    return {"timings": timings_of(done), "madang": {**facts, **told}}


def logprobs_of(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """For chats."""
    return {
        "content": [
            {**_likelihood(token.text, token.logprob), "top_logprobs": _alternatives(token)} for token in tokens
        ],
        "refusal": None,
    }


def _alternatives(token: TokenLogprob) -> list[dict[str, Any]]:
    return [_likelihood(text, logprob) for text, (_, logprob) in zip(token.top_texts, token.top, strict=False)]


def _likelihood(text: str, logprob: float) -> dict[str, Any]:
    # A token may be a part of a character; its bytes are then not those of its text.
    in_bytes = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": finite(logprob), "bytes": in_bytes}


def finite(logprob: float) -> float:
    """A number that JSON can hold."""
    return max(logprob, _NEVER)


def call_of(call: ToolCall) -> dict[str, Any]:
    """A call, its arguments as text."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
    }
