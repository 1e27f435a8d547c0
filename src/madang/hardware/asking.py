"""Questions to the system that may go unanswered."""

from __future__ import annotations

import subprocess
from pathlib import Path

TIMEOUT_S = 5.0


def ask(*command: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """What a command prints; None when it is missing, fails, or takes longer than ``timeout_s``."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() or None


def read_text(path: Path) -> str | None:
    """A small file of the system; None when it is not there or not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
