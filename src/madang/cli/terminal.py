"""The person at the terminal, as the chat sees them: lines with a history that is kept under home."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

HISTORY_FILE = "chat_history"
HISTORY_LINES = 1000

ReadLine = Callable[[str], str]


@contextmanager
def line_editor(home: Path) -> Iterator[ReadLine]:
    """A function that asks for a line: arrow keys edit it and recall earlier ones.

    The function raises EOFError on Ctrl-D and KeyboardInterrupt on Ctrl-C. Without readline, or when the history
    cannot be read or written, lines are still read; when stdout goes elsewhere, the prompt is a note.
    """
    readline = _readline()
    if readline is None or not sys.stdout.isatty():
        yield input if sys.stdout.isatty() else _plain_line
        return
    path = home / HISTORY_FILE
    readline.set_auto_history(True)
    readline.set_history_length(HISTORY_LINES)
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield input
    finally:
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # what was said is nobody else's business
            readline.write_history_file(path)


def _plain_line(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # not a part of Python on Windows
        return None
    return readline
