"""Errors as Ollama's clients read them."""

from __future__ import annotations

from typing import Any

from madang.core.errors import ContextLengthExceeded, MadangError, ModelNotFound
from madang.server.failures import sentence_of


def error_body(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """One sentence, and for programs its code; the numbers of a context that is too small go along."""
    if isinstance(error, ModelNotFound):  # in the words that clients look for
        return {"error": f"model '{error.name}' not found. {error.hint or ''}".rstrip(), "code": error.code}
    record: dict[str, Any] = {"error": sentence_of(error)}
    if isinstance(error, MadangError):
        record["code"] = error.code
    if isinstance(error, ContextLengthExceeded):
        record |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return record
