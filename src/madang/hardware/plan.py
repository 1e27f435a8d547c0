"""Settings for one model on one machine, each with its reason; what cannot be honoured is refused with the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from madang.core.errors import InvalidRequest, NotEnoughMemory, UnknownOption
from madang.core.units import format_bytes
from madang.formats.spec import DecoderSpec
from madang.hardware.choice import Choice, Reason
from madang.hardware.kv_cache import KV_PAGE_TOKENS, KV_TYPES, fitting_tokens, kv_cache_bytes
from madang.hardware.machine import Machine
from madang.hardware.memory import MemoryEstimate, estimate_weights_bytes, working_bytes
from madang.hardware.placement import Placement, PlacementRequest, place

SMALLEST_USEFUL_CONTEXT_TOKENS = 256
PREFILL_CHUNK_TOKENS = 256
MAX_THREADS = 1024
PRECISIONS = ("exact", "fast")
SPECULATIONS = ("ngram", "off", "draft:MODEL")
MAX_CONCURRENCY = 32
# Beyond one full context, the cache keeps what other conversations computed: as many more, if memory allows.
KV_CONTEXTS = 4
KV_FREE_SHARE = 0.5
UNKNOWN_CONTEXT_TOKENS: Final = 4096


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the user insists on; None leaves it to the plan.

    context_is_limit   a model that was trained for less than ``context_tokens`` has what it was trained for
    """

    threads: int | None = None
    context_tokens: int | None = None
    isa: str | None = None
    prefill_chunk_tokens: int | None = None
    precision: str | None = None
    kv_limit_bytes: int | None = None
    kv_type: str | None = None
    max_concurrency: int | None = None
    speculation: str | None = None
    placement: PlacementRequest = field(default_factory=PlacementRequest)
    context_is_limit: bool = False


class WeightFiles(Protocol):
    """What a plan needs to know of a model's files (``models.ModelFiles`` is one)."""

    @property
    def name(self) -> str:
        """The model's name, for messages."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an engine loads and runs a model.

    precision        "exact" or "fast": whether activations keep 15 bits everywhere, or only where it matters most
    isa              "auto" or the name of one instruction set; the engine knows which ones it has
    kv_limit_bytes   the most that the caches of all conversations take together, those kept for later included
    kv_type          how keys and values are kept: "f16", or "int8" in about half of the memory
    max_concurrency  generations that are computed side by side; more wait
    speculation      "ngram" guesses from the text, "draft:<file or folder>" with a smaller model, "off" does not
    placement        device, dtype and quantization, for engines that have a choice
    memory           at the full context; None when nothing was calculated
    """

    threads: Choice[int]
    context_tokens: Choice[int]
    isa: Choice[str] = field(default_factory=lambda: Choice("auto", "the engine takes the best one this CPU has"))
    prefill_chunk_tokens: Choice[int] = field(default_factory=lambda: Choice(PREFILL_CHUNK_TOKENS, "the default"))
    precision: Choice[str] = field(default_factory=lambda: Choice(PRECISIONS[0], "the default"))
    kv_limit_bytes: Choice[int] = field(default_factory=lambda: Choice(1 << 30, "the default"))
    kv_type: Choice[str] = field(default_factory=lambda: Choice(KV_TYPES[0], "the default"))
    max_concurrency: Choice[int] = field(default_factory=lambda: Choice(MAX_CONCURRENCY, "the default"))
    speculation: Choice[str] = field(default_factory=lambda: Choice(SPECULATIONS[0], "the default"))
    placement: Placement = field(default_factory=Placement)
    memory: MemoryEstimate | None = None


def make_plan(
    spec: DecoderSpec,
    files: WeightFiles,
    machine: Machine,
    requested: PlanRequest | None = None,
    *,
    weights_bytes: int | None = None,
) -> Plan:
    """Choose what was not requested. ``weights_bytes`` are the resident weights, estimated from the files if not given.

    Raises InvalidRequest for a value that makes no sense on this model or machine, NotEnoughMemory when the weights
    do not fit, or not with the requested context.
    """
    requested = requested or PlanRequest()
    if weights_bytes is None:
        weights_bytes = estimate_weights_bytes(files.size_bytes)
    available_bytes = machine.ram_available_bytes
    kv_type = _kv_type(requested.kv_type)
    cache = _Cache(spec, kv_type.value, requested.prefill_chunk_tokens or PREFILL_CHUNK_TOKENS)
    fixed = MemoryEstimate(weights_bytes, 0, working_bytes(spec, cache.step_tokens))
    context = _context(cache, files.name, fixed, available_bytes, requested)
    context_bytes = cache.n_bytes(context.value)
    free_bytes = None if available_bytes is None else available_bytes - fixed.total_bytes
    return Plan(
        threads=_threads(machine, requested.threads),
        context_tokens=context,
        isa=_isa(requested.isa),
        precision=_precision(requested.precision),
        prefill_chunk_tokens=_prefill_chunk(context.value, requested.prefill_chunk_tokens),
        kv_limit_bytes=_kv_limit(context_bytes, free_bytes, requested.kv_limit_bytes),
        kv_type=kv_type,
        max_concurrency=_concurrency(requested.max_concurrency),
        speculation=_speculation(requested.speculation),
        placement=place(requested.placement),
        memory=replace(fixed, kv_cache_bytes=context_bytes),
    )


def outline_plan(
    name: str, machine: Machine, requested: PlanRequest | None = None, *, trained_tokens: int | None = None
) -> Plan:
    """For a model whose insides only its engine knows: ``trained_tokens`` is what its files say, memory stays open.

    Raises InvalidRequest and UnknownOption for values that make no sense.
    """
    requested = requested or PlanRequest()
    context = _requested_context(name, requested, trained_tokens)
    if context is None and trained_tokens is not None:
        context = Choice(trained_tokens, "what the model was trained for")
    elif context is None:
        context = Choice(UNKNOWN_CONTEXT_TOKENS, "the model does not say what it was trained for")
    return Plan(
        threads=_threads(machine, requested.threads),
        context_tokens=context,
        max_concurrency=_concurrency(requested.max_concurrency),
        placement=place(requested.placement),
    )


def _requested_context(name: str, request: PlanRequest, trained: int | None) -> Choice[int] | None:
    """What was asked for, if anything was, and whether the model can have it."""
    asked = request.context_tokens
    if asked is None or trained is None or 1 <= asked <= trained:
        return None if asked is None else Choice(asked, "as requested")
    if asked > trained and request.context_is_limit:
        return Choice(trained, Reason("what the model was trained for, where {asked} tokens are the most", asked=asked))
    raise InvalidRequest(
        f"A context of {asked} tokens was asked for, but {name} was trained for 1 to {trained}.",
        param="context_tokens",
        hint=f"Ask for at most {trained}.",
    )


@dataclass(frozen=True, slots=True)
class _Cache:
    """The cache of one model, kept in one way, while a prompt is read in chunks of ``step_tokens``."""

    spec: DecoderSpec
    kv_type: str
    step_tokens: int

    def n_bytes(self, tokens: int) -> int:
        return kv_cache_bytes(self.spec, tokens, kv_type=self.kv_type, step_tokens=self.step_tokens)

    def n_fitting(self, room_bytes: int) -> int:
        return fitting_tokens(self.spec, room_bytes, kv_type=self.kv_type, step_tokens=self.step_tokens)


def _context(
    cache: _Cache, name: str, fixed: MemoryEstimate, available_bytes: int | None, request: PlanRequest
) -> Choice[int]:
    trained = cache.spec.context_tokens
    requested = _requested_context(name, request, trained)
    smallest = min(trained if requested is None else requested.value, SMALLEST_USEFUL_CONTEXT_TOKENS)
    fixed_bytes = fixed.total_bytes
    needed_bytes = fixed_bytes + cache.n_bytes(smallest)
    if available_bytes is not None and needed_bytes > available_bytes:
        raise NotEnoughMemory(name, needed_bytes, available_bytes)
    room = trained if available_bytes is None else cache.n_fitting(available_bytes - fixed_bytes)
    if requested is not None:
        if requested.value > room and available_bytes is not None:
            needed_bytes = fixed_bytes + cache.n_bytes(requested.value)
            hint = f"A context of {_rounded(room)} tokens fits."
            raise NotEnoughMemory(
                f"{name} with a context of {requested.value} tokens", needed_bytes, available_bytes, hint=hint
            )
        return requested
    if request.kv_limit_bytes is not None and cache.n_fitting(request.kv_limit_bytes) < min(trained, room):
        return Choice(max(cache.n_fitting(request.kv_limit_bytes), KV_PAGE_TOKENS), "what the cache's limit holds")
    if trained <= room:
        return Choice(trained, "what the model was trained for")
    wanted = format_bytes(cache.n_bytes(trained))
    return Choice(
        _rounded(room),
        Reason(
            "the model was trained for {trained}, but the cache for that takes {wanted}, "
            "and {free} are free beside the weights",
            trained=trained,
            wanted=wanted,
            free=format_bytes(max((available_bytes or 0) - fixed_bytes, 0)),
        ),
    )


def _rounded(tokens: int) -> int:
    """Down to a multiple of the smallest useful context."""
    return max(tokens // SMALLEST_USEFUL_CONTEXT_TOKENS, 1) * SMALLEST_USEFUL_CONTEXT_TOKENS


def _threads(machine: Machine, requested: int | None) -> Choice[int]:
    if requested is not None:
        most = machine.logical_cores or MAX_THREADS
        if not 1 <= requested <= most:
            raise InvalidRequest(
                f"{requested} threads were asked for, but this process may use 1 to {most}.", param="threads"
            )
        return Choice(requested, "as requested")
    if machine.physical_cores is None:
        return Choice(machine.logical_cores or 1, "one per logical processor; the number of cores is unknown")
    if machine.cpu_limit is not None and int(machine.cpu_limit) <= machine.physical_cores:
        return Choice(
            machine.physical_cores,
            Reason("the container is limited to {limit} processors", limit=f"{machine.cpu_limit:g}"),
        )
    return Choice(machine.physical_cores, "one per physical core; a second on the same core adds no bandwidth")


def _kv_limit(context_bytes: int, free_bytes: int | None, requested: int | None) -> Choice[int]:
    if requested is not None:
        if requested < context_bytes:
            raise InvalidRequest(
                f"The cache was limited to {format_bytes(requested)}, but one context takes "
                f"{format_bytes(context_bytes)}.",
                param="kv_memory",
                hint="Raise --kv-memory or lower --context.",
            )
        if free_bytes is not None and requested > free_bytes:
            raise NotEnoughMemory("The cache", requested, free_bytes, hint="Lower --kv-memory.")
        return Choice(requested, "as requested")
    wanted = KV_CONTEXTS * context_bytes
    if free_bytes is None or wanted <= KV_FREE_SHARE * free_bytes:
        return Choice(
            wanted, Reason("{n} full contexts, for several conversations and those kept for later", n=KV_CONTEXTS)
        )
    limit = max(int(KV_FREE_SHARE * free_bytes), context_bytes)
    return Choice(
        limit,
        Reason(
            "of {free} free beside the weights; one context takes {one}",
            free=format_bytes(free_bytes),
            one=format_bytes(context_bytes),
        ),
    )


def _kv_type(requested: str | None) -> Choice[str]:
    if requested is None:
        return Choice(KV_TYPES[0], "the default: int8 takes about half of the memory, and is a little less exact")
    if requested not in KV_TYPES:
        raise UnknownOption("kind of cache", requested, KV_TYPES)
    return Choice(requested, "as requested")


def _concurrency(requested: int | None) -> Choice[int]:
    if requested is None:
        return Choice(MAX_CONCURRENCY, "more at once slow each down without computing more together")
    if requested < 1:
        raise InvalidRequest(f"concurrency is {requested}, but must be 1 or more.", param="concurrency")
    return Choice(requested, "as requested")


def _speculation(requested: str | None) -> Choice[str]:
    if requested is None:
        return Choice(SPECULATIONS[0], "on while what it guesses from the text pays")
    kind, _, draft = requested.partition(":")
    if requested not in ("ngram", "off") and not (kind == "draft" and draft):
        raise UnknownOption("speculation", requested, SPECULATIONS)
    return Choice(requested, "as requested")


def _isa(requested: str | None) -> Choice[str]:
    if requested is None or requested == "auto":
        return Choice("auto", "the engine takes the best one this CPU has")
    return Choice(requested, "as requested")


def _precision(requested: str | None) -> Choice[str]:
    if requested is None:
        return Choice(PRECISIONS[0], "the default: greedy text as in float32")
    if requested not in PRECISIONS:
        raise UnknownOption("precision", requested, PRECISIONS)
    return Choice(requested, "as requested")


def _prefill_chunk(context_tokens: int, requested: int | None) -> Choice[int]:
    if requested is not None:
        if requested < 1:
            raise InvalidRequest(
                f"prefill_chunk_tokens is {requested}, but must be 1 or more.", param="prefill_chunk_tokens"
            )
        return Choice(requested, "as requested")
    if context_tokens < PREFILL_CHUNK_TOKENS:
        return Choice(context_tokens, "the whole context")
    return Choice(PREFILL_CHUNK_TOKENS, "enough to make each weight worth reading, short enough to stop in between")
