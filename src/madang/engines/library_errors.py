"""What other libraries raise while they load a model, in our terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from madang.core.errors import MadangError, NotEnoughMemory, UnsupportedModel
from madang.models import ModelFiles

MAX_REASON: Final = 300  # characters of what a library says


@contextmanager
def loading_errors(
    files: ModelFiles, engine: str, *, out_of_memory: tuple[type[Exception], ...] = (MemoryError,)
) -> Iterator[None]:
    """The library's errors as ours; which is which can only be told by their class."""
    try:
        yield
    except MadangError:
        raise
    except out_of_memory as error:
        raise NotEnoughMemory(files.name, files.size_bytes, None) from error
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, OSError, RuntimeError) as error:
        hint = f"It says: {type(error).__name__}: {said_by(error)}"
        raise UnsupportedModel(files.name, engine=engine, hint=hint) from error


def said_by(error: Exception) -> str:
    """On one line, and not too long."""
    return " ".join(str(error).split())[:MAX_REASON]
