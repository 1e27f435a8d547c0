"""Where the prompt of ``madang run`` comes from: the command line, standard input, or both."""

from __future__ import annotations

from threading import Timer
from typing import TextIO

from madang.cli.console import note
from madang.core.errors import InvalidRequest

PATIENCE_S = 2.0


def read_prompt(argument: str | None, stdin: TextIO | None) -> str | None:
    """The prompt, or None when it is to be a chat: no argument, and a person at a terminal.

    What is piped in follows the argument after an empty line; ``stdin`` is None when there is none at all. Raises
    :class:`InvalidRequest` when the two hold no text or are not UTF-8.
    """
    if argument is None and stdin is not None and stdin.isatty():
        return None
    parts = [] if argument is None else [checked_text(argument, "The prompt")]
    if stdin is not None and not stdin.isatty():
        parts.append(read_all(stdin))
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise InvalidRequest(
            "The prompt is empty.", param="prompt", hint='Write it after the model: madang run MODEL "your question".'
        )
    return prompt


def checked_text(text: str, what: str) -> str:
    """``text`` as it was meant, whatever encoding the system assumed. Raises :class:`InvalidRequest` if not UTF-8."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which Windows lets through
        raw = text.encode("utf-8", "surrogatepass")
    return _decoded(raw, "utf-8", what)


def read_all(stdin: TextIO) -> str:
    """Everything piped in; says what it is waiting for when nothing comes."""
    waiting = Timer(PATIENCE_S, note, ["Waiting for standard input to end; add </dev/null if there is none."])
    waiting.daemon = True
    waiting.start()
    try:
        raw = stdin.buffer.read()
    finally:
        waiting.cancel()
    return _decoded(raw, "utf-8-sig", "Standard input")


def _decoded(raw: bytes, encoding: str, what: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{what} is not UTF-8 text: byte 0x{raw[error.start]:02x} at position {error.start}.",
            param="prompt",
            hint="Convert it first, for Korean text for example with: iconv -f cp949 -t utf-8",
        ) from None
