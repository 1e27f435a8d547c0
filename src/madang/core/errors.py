"""Every error that madang raises on purpose.

    MadangError
    ├── InvalidRequest                   what was asked for makes no sense
    │   ├── UnknownOption                an option, setting or verb that does not exist
    │   ├── InvalidReference             a model reference that cannot be parsed
    │   ├── ContextLengthExceeded        the prompt is longer than the context
    │   ├── InvalidPrefix                a saved prefix that is damaged or of another model
    │   ├── TemplateError                the chat template refused or ran away
    │   ├── NotFound                     no such session, message or persona, or not of this caller
    │   ├── RequestTooLarge              more bytes than a request may have
    │   └── RequestTimeout               the client took too long to send its request
    ├── AccessDenied                     a server does not let this caller do it
    │   ├── InvalidKey                   no API key, or one that is not known
    │   └── Forbidden                    a host, origin, model or path that is not allowed
    ├── TryLater                         the same request may succeed later
    │   ├── RateLimited                  this key has used up its share for now
    │   └── Overloaded                   too many others wait, or the server is stopping
    ├── ModelError                       something is wrong with a model or its files
    │   ├── ModelNotFound
    │   ├── MalformedFile                damaged, truncated or hostile file
    │   ├── FileLost                     a file of another program, gone or changed since it was imported
    │   ├── AdapterMismatch              a LoRA adapter that belongs to another model
    │   ├── CannotQuantize               weights that a tensor type cannot hold
    │   ├── CannotConvert                the other format has no form for it
    │   ├── ParityFailed                 an exported model is not the one that was trained
    │   └── UnsupportedModel             well-formed, but this engine cannot run it
    ├── SourceError                      a model could not be fetched
    │   ├── NetworkUnavailable
    │   └── ChecksumMismatch
    ├── DocumentError                    a document that cannot be read; nothing of it was kept
    ├── StorageError                     sessions and runs cannot be read or kept now
    ├── NotEnoughResources
    │   ├── NotEnoughMemory
    │   └── NotEnoughDisk
    ├── TrainingFailed                   a run came to a loss that is no number
    └── EngineError                      an engine is missing or failed while running
        └── EngineUnavailable

Each carries one sentence (what happened, with the limit that was hit), typed fields for programs, and ``hint``: the
next command to type. Nothing is ever recovered from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import ClassVar

from madang.core.units import format_bytes


class MadangError(Exception):
    """Base of the tree. ``code`` is stable and goes into JSON; ``hint`` is the next step for a person."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_dict(self) -> dict[str, object]:
        """The error for JSON output: code, sentence, hint and the fields of its class."""
        fields = {key: value for key, value in vars(self).items() if key not in {"message", "hint"}}
        return {"code": self.code, "message": self.message, "hint": self.hint, **fields}


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """A hint naming the closest of ``known``, or None when nothing is close."""
    close = get_close_matches(word, known, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(close)}?" if close else None


class InvalidRequest(MadangError):
    """A value is out of range or contradicts another; ``param`` names it."""

    code = "invalid_request"
    exit_code = 2

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class UnknownOption(InvalidRequest):
    """A name that does not exist, with the closest one that does."""

    code = "unknown_option"

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        hint = did_you_mean(name, known) or (f"Known: {', '.join(known)}." if known else "There are none.")
        super().__init__(f"There is no {kind} named '{name}'.", param=name, hint=hint)


class InvalidReference(InvalidRequest):
    """A model reference that follows none of the four forms."""

    code = "invalid_reference"


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit; nothing was dropped and nothing was generated."""

    code = "exceed_context_size_error"

    def __init__(self, n_prompt_tokens: int, n_ctx: int) -> None:
        super().__init__(
            f"The prompt has {n_prompt_tokens} tokens, but the context holds {n_ctx}"
            + (" and at least one must be left for the answer." if n_prompt_tokens == n_ctx else "."),
            param="messages",
            hint="Shorten the prompt or the conversation, or raise --context if the model allows it.",
        )
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class InvalidPrefix(InvalidRequest):
    """A saved prefix that cannot be used; the cache is as it was."""

    code = "invalid_prefix"

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"{path} cannot be used as a saved prefix: {problem}.", param="path", hint="Save it again with this model."
        )
        self.path = str(path)
        self.problem = problem


class TemplateError(InvalidRequest):
    """A chat template failed, refused the conversation, or went past its limits."""

    code = "template_error"


class NotFound(InvalidRequest):
    """A session, message or persona that does not exist, or that is not this caller's: nobody learns which."""

    code = "not_found"

    def __init__(self, kind: str, name: str, *, hint: str | None = None) -> None:
        super().__init__(f"There is no {kind} '{name}'.", param=kind, hint=hint)


class RequestTooLarge(InvalidRequest):
    """A request with more bytes than the server reads; nothing of it was used."""

    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request has more than {format_bytes(limit_bytes)}, which is the limit.", param="body")
        self.limit_bytes = limit_bytes


class RequestTimeout(InvalidRequest):
    """A request that came too slowly to wait for the rest of it."""

    code = "request_timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request was not complete after {limit_s:g} s without news.", param="body")
        self.limit_s = limit_s


class AccessDenied(MadangError):
    """A server does not let this caller do what was asked."""

    code = "access_denied"


class InvalidKey(AccessDenied):
    """No API key came along, or one that the server does not know."""

    code = "invalid_api_key"


class Forbidden(AccessDenied):
    """The caller is known, or needs no key, but a host, origin, model or path is not allowed."""

    code = "forbidden"


class TryLater(MadangError):
    """Nothing is wrong with the request; ``retry_after_s`` is when to send it again."""

    code = "try_later"

    def __init__(self, message: str, *, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class RateLimited(TryLater):
    """A key has used up its requests, or has as many running as it may."""

    code = "rate_limit_exceeded"


class Overloaded(TryLater):
    """As many requests as the server keeps are waiting, or it is stopping."""

    code = "overloaded"


class ModelError(MadangError):
    """Something is wrong with a model."""

    code = "model_error"


class ModelNotFound(ModelError):
    """No such model in the store or the catalog."""

    code = "model_not_found"

    def __init__(self, name: str, known: Sequence[str] = (), *, hint: str | None = None) -> None:
        fallback = "See 'madang list' for local models and 'madang list --catalog' for known ones."
        super().__init__(f"There is no model '{name}'.", hint=hint or did_you_mean(name, known) or fallback)
        self.name = name


class MalformedFile(ModelError):
    """A model file breaks its format's rules; it was not loaded."""

    code = "malformed_file"

    def __init__(self, path: object, problem: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"{path} is not a valid model file: {problem}.",
            hint=hint or "Fetch it again with 'madang pull', or check where it came from.",
        )
        self.path = str(path)
        self.problem = problem


class FileLost(ModelError):
    """A model uses a file of another program in place of a copy, and it is not the same any more."""

    code = "file_lost"

    def __init__(self, name: str, path: object, what: str) -> None:
        super().__init__(
            f"{name} uses {path}, which {what} since it was imported.",
            hint=f"Fetch it again with 'madang pull {name}', or forget it with 'madang rm {name}'.",
        )
        self.name = name
        self.path = str(path)
        self.what = what


# Engines that know most of what ours does not: of GGUF files, and of Hugging Face folders.
GGUF_ENGINE = "llamacpp"
FOLDER_ENGINE = "transformers"


class UnsupportedModel(ModelError):
    """The file is fine, but this engine has no code for its architecture or tensor type."""

    code = "unsupported_model"

    def __init__(
        self, what: str, *, runs_with: str | None = None, hint: str | None = None, engine: str = "native"
    ) -> None:
        fallback = f"It would run with {runs_with}." if runs_with else "No engine known to madang runs it."
        super().__init__(f"The {engine} engine does not run {what}.", hint=hint or fallback)
        self.what = what
        self.runs_with = runs_with


class AdapterMismatch(ModelError):
    """An adapter does not fit the model; ``tensor`` is the first place where that shows."""

    code = "adapter_mismatch"

    def __init__(self, name: str, tensor: str, problem: str) -> None:
        super().__init__(
            f"The adapter {name} does not belong to this model: at '{tensor}', {problem}.",
            hint="Load it with the model that it was trained on.",
        )
        self.name = name
        self.tensor = tensor


class CannotQuantize(ModelError):
    """A tensor cannot be written in the type that was asked for; nothing was written."""

    code = "cannot_quantize"

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"Cannot quantize: {problem}.", hint=hint)
        self.problem = problem


class CannotConvert(ModelError):
    """A model that the other format cannot say; nothing was written."""

    code = "cannot_convert"

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"The model cannot be converted: {what}.", hint=hint)
        self.what = what


class ParityFailed(ModelError):
    """An exported model differs from the trained one; it was not kept. ``check`` names what was compared."""

    code = "parity_failed"

    def __init__(self, check: str, difference: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"The export is not the model that was trained, so nothing was kept: its {check} differs: {difference}.",
            hint=hint or "Please report it with the names of both models: this should not happen.",
        )
        self.check = check
        self.difference = difference


class SourceError(MadangError):
    """A model could not be fetched; the store is as it was."""

    code = "source_error"


class NetworkUnavailable(SourceError):
    """The place that a model comes from did not answer."""

    code = "network_unavailable"


class ChecksumMismatch(SourceError):
    """The bytes that arrived are not the bytes that the catalog or source promised; they were deleted."""

    code = "checksum_mismatch"

    def __init__(self, what: str, expected_sha256: str, actual_sha256: str) -> None:
        super().__init__(
            f"{what} has checksum {actual_sha256[:16]}…, expected {expected_sha256[:16]}…; nothing was kept.",
            hint="Pull again; if it happens twice, the source serves a different file.",
        )
        self.expected_sha256 = expected_sha256
        self.actual_sha256 = actual_sha256


class DocumentError(MadangError):
    """A document that is damaged, too large, locked, or in no format that madang reads; nothing of it was kept."""

    code = "document_error"

    def __init__(self, name: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{name} cannot be read: {problem}.", hint=hint)
        self.name = name
        self.problem = problem


class StorageError(MadangError):
    """The database cannot be used: locked, full, read-only, damaged, or of a newer version. Models still answer."""

    code = "storage_error"


class NotEnoughResources(MadangError):
    """This machine cannot do it, with the numbers."""

    code = "not_enough_resources"


class NotEnoughMemory(NotEnoughResources):
    """Loading or growing would not fit into memory; ``available_bytes`` is None when the system itself refused."""

    code = "not_enough_memory"

    def __init__(self, what: str, needed_bytes: int, available_bytes: int | None, *, hint: str | None = None) -> None:
        end = (
            "which the system refused to give"
            if available_bytes is None
            else f"but {format_bytes(available_bytes)} are available"
        )
        super().__init__(
            f"{what} needs {format_bytes(needed_bytes)} of memory, {end}.",
            hint=hint or "Close other programs, lower --context, or choose a smaller model or quantization.",
        )
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class NotEnoughDisk(NotEnoughResources):
    """The file would not fit on the disk; checked before writing."""

    code = "not_enough_disk"

    def __init__(self, folder: object, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(
            f"{folder} needs {format_bytes(needed_bytes)} of disk space, but {format_bytes(available_bytes)} are free.",
            hint="Remove a model with 'madang rm', or put the store elsewhere with MADANG_HOME.",
        )
        self.folder = str(folder)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class TrainingFailed(MadangError):
    """The loss or its gradient is no number; what was kept before is untouched, and ``checkpoint`` is where."""

    code = "training_failed"

    def __init__(self, what: str, step: int, checkpoint: object, *, hint: str | None = None) -> None:
        kept = "nothing was kept before" if checkpoint is None else f"the last good checkpoint is {checkpoint}"
        super().__init__(
            f"At step {step} {what}; {kept}.",
            hint=hint or "Lower the learning rate, or look at the examples of that step.",
        )
        self.step = step
        self.checkpoint = None if checkpoint is None else str(checkpoint)


class EngineError(MadangError):
    """An engine failed while running; the engine says whether it can go on."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """An engine exists, but what it needs is not installed."""

    code = "engine_unavailable"
