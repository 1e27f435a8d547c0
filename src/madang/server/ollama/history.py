"""The ``context`` of /api/generate: the conversation so far, as the list of numbers that clients send back unread.

To Ollama these are tokens. Ours are the bytes of the messages themselves, so they hold for every model and template,
and control tokens that people wrote stay text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.core.messages import Message

_MARK: Final = b"madang\x01"
MAX_NUMBERS: Final = 4 << 20
MAX_BYTES: Final = 16 << 20  # once unpacked


def write_context(messages: Sequence[Message]) -> list[int]:
    """The numbers for a conversation; only role and content are kept, which is all that a prompt can bring."""
    record = [[message.role, message.content] for message in messages]
    return list(_MARK + zlib.compress(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")))


def read_context(numbers: Sequence[Any]) -> tuple[Message, ...]:
    """The conversation again, none for no numbers. Raises InvalidRequest when they do not come from here."""
    if not numbers:
        return ()
    try:
        if len(numbers) > MAX_NUMBERS:
            raise ValueError
        packed = bytes(numbers)
        if not packed.startswith(_MARK):
            raise ValueError
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed[len(_MARK) :], MAX_BYTES)
        if not unpacker.eof:
            raise ValueError
        return tuple(Message(role, str(text)) for role, text in json.loads(content.decode("utf-8", "surrogatepass")))
    except (ValueError, TypeError, zlib.error, RecursionError, InvalidRequest):
        raise InvalidRequest(
            "'context' does not come from an answer of this server.",
            param="context",
            hint="Send the one of the last answer, or the conversation to /api/chat.",
        ) from None
