"""What a model on this machine will take and how fast it will be, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from madang.core.errors import MadangError, NotEnoughMemory
from madang.core.events import Done, Timings, Usage
from madang.core.settings import Settings
from madang.core.units import format_bytes
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType
from madang.hardware import (
    MachineProfile,
    MemoryEstimate,
    Plan,
    forecast_decode,
    forecast_prompt,
    kv_cache_bytes,
    packed_weights_bytes,
    read_profile,
    work_of,
    working_bytes,
)
from madang.hardware.corrections import Learned, Quantity, kind_of, learn, read_corrections
from madang.hardware.memory import packed_bits
from madang.models import (
    ModelFiles,
    NameReference,
    Store,
    load_catalog,
    parse_reference,
    read_endpoint,
)
from madang.models.headers import header_files
from madang.models.references import HubReference, OllamaReference, UrlReference
from madang.runtime.choosing import OWN_ENGINE, choose_for
from madang.runtime.open import find_files, plan_for

DEPTHS_TOKENS = (512, 4096)
SHORTEST_PROMPT_TOKENS = 64  # of what is learned from: less is mostly waiting
SHORTEST_DECODE_TOKENS = 16
_SMALLER_TYPES = (TensorType.Q8_0, TensorType.Q6_K, TensorType.Q5_K, TensorType.Q4_K, TensorType.Q3_K, TensorType.Q2_K)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of a prompt of ``tokens``, and of the answer behind it, corrected by what was learned."""

    tokens: int
    prompt_tokens_per_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class TypeRow:
    """Tensors of one type: in files, and as they will lie in memory."""

    type: str
    n_tensors: int
    file_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A plan with what led to it.

    types    empty where the insides of the model are its engine's own affair
    speeds   empty where this machine was not measured, and for other engines than ours
    """

    model: str
    engine: str
    engine_reason: str
    plan: Plan
    types: tuple[TypeRow, ...] = ()
    speeds: tuple[Speed, ...] = ()
    measured_at: str | None = None
    corrected: bool = False


@contextmanager
def planned_files(reference: str, settings: Settings) -> Iterator[ModelFiles]:
    """The model's files, or, of one that is not here, their headers: a few megabytes, for as long as the block lasts.

    Raises what ``find_files`` and ``header_files`` raise.
    """
    parsed, store = parse_reference(reference), Store(settings.home)
    if store.find(parsed) is None:
        entry = load_catalog().find(parsed) if isinstance(parsed, NameReference) else None
        source = parsed if entry is None else entry.source
        if isinstance(source, HubReference | OllamaReference | UrlReference):
            with header_files(source, registry=settings.ollama_registry, endpoint=settings.hf_endpoint) as files:
                yield files
            return
    yield find_files(reference, store)


def reason(files: ModelFiles, settings: Settings) -> Reasoning:
    """What would run the model, how, and how fast. Raises what ``plan_for`` raises."""
    chosen = choose_for(files, settings.engine)
    entry = chosen.choice.entry
    try:
        plan = plan_for(files, settings)
    except NotEnoughMemory as refusal:
        refusal.hint = _smaller(chosen.description, refusal) or refusal.hint
        raise
    profile = read_profile(settings.home)
    if chosen.description is None:
        return Reasoning(files.name, entry.name, chosen.choice.reason, plan)
    types = tuple(_type_rows(chosen.description))
    if profile is None or entry.name != OWN_ENGINE:
        return Reasoning(files.name, entry.name, chosen.choice.reason, plan, types)
    learned = read_corrections(settings.home, _kind(chosen.description))
    depths = sorted({min(depth, plan.context_tokens.value) for depth in (*DEPTHS_TOKENS, plan.context_tokens.value)})
    speeds = tuple(_speed(profile, chosen.description, plan, depth, learned) for depth in depths)
    is_corrected = any(one.factor != 1 for one in learned.values())
    return Reasoning(
        files.name, entry.name, chosen.choice.reason, plan, types, speeds, profile.measured_at, is_corrected
    )


def _smaller(description: ModelDescription | None, refusal: NotEnoughMemory) -> str | None:
    """What would fit: the same context with weights of fewer bits, beside what the refusal already says."""
    if description is None or refusal.available_bytes is None:
        return None
    matrices = [tensor for tensor in description.tensors.values() if len(tensor.shape) > 1]
    weights_bytes = packed_weights_bytes(matrices)
    n_weights = sum(prod(tensor.shape) for tensor in matrices)
    for kind in _SMALLER_TYPES:
        smaller_bytes = round(n_weights * packed_bits(kind) / 8)
        needed_bytes = refusal.needed_bytes - weights_bytes + smaller_bytes
        if smaller_bytes < weights_bytes and needed_bytes <= refusal.available_bytes:
            hint = f"With weights of {kind.name} it would need about {format_bytes(needed_bytes)}."
            return hint if refusal.hint is None else f"{refusal.hint} {hint}"
    return f"Not even with weights of {_SMALLER_TYPES[-1].name} would it fit; choose a smaller model."


def _speed(
    profile: MachineProfile,
    description: ModelDescription,
    plan: Plan,
    depth_tokens: int,
    learned: dict[Quantity, Learned],
) -> Speed:
    work, threads, kv_type = work_of(description), plan.threads.value, plan.kv_type.value
    prompt = forecast_prompt(
        profile, work, depth_tokens, chunk_tokens=plan.prefill_chunk_tokens.value, kv_type=kv_type, threads=threads
    )
    decode = forecast_decode(profile, work, depth_tokens, kv_type=kv_type, threads=threads)
    return Speed(
        depth_tokens,
        prompt * learned.get("prompt", Learned()).factor,
        decode * learned.get("decode", Learned()).factor,
    )


def _type_rows(description: ModelDescription) -> list[TypeRow]:
    rows = []
    kinds = Counter(tensor.type for tensor in description.tensors.values())
    for kind, n_tensors in kinds.items():
        tensors = [tensor for tensor in description.tensors.values() if tensor.type is kind]
        file_bytes = sum(tensor.size_bytes for tensor in tensors)
        rows.append(TypeRow(kind.name, n_tensors, file_bytes, packed_weights_bytes(tensors)))
    return sorted(rows, key=lambda row: row.memory_bytes, reverse=True)


def _kind(description: ModelDescription) -> str:
    sizes: Counter[TensorType] = Counter()
    for tensor in description.tensors.values():
        sizes[tensor.type] += tensor.size_bytes
    return kind_of(OWN_ENGINE, description.spec.architecture, max(sizes, key=lambda kind: sizes[kind]).name)


class Learner:
    """Compares answers of one model with the native engine's forecast, and remembers the difference."""

    def __init__(self, reference: str, settings: Settings) -> None:
        self._reference, self._settings = reference, settings
        self._known: _Known | None = None

    def learn(self, done: Done, *, is_only: bool = False) -> None:
        """From an answer that ran alone: answers that are computed together share their steps.

        Nothing is learned where this machine was not measured, or from answers that are too short to tell. What fails
        here fails silently: an answer is worth more than a statistic.

        is_only   this process computed nothing else, so that its memory can be compared as well
        """
        profile = read_profile(self._settings.home)
        if profile is None:
            return
        try:
            known = self._look_up()
            if known is None:
                return
            ratios = _ratios(profile, known.description, known.plan, done.usage, done.timings)
            if is_only:
                needed = needed_bytes(known.description, known.plan, done.usage.total_tokens)
                ratios["memory"] = _resident_bytes() / needed
            if ratios:
                learn(self._settings.home, known.files.name, _kind(known.description), ratios)
        except (MadangError, OSError):
            return

    def _look_up(self) -> _Known | None:
        """The model as it is now; None for one that is elsewhere, or that another engine runs."""
        if read_endpoint(self._reference) is not None:
            return None
        files = Store(self._settings.home).find(parse_reference(self._reference))
        if files is None:
            return None
        if self._known is None or self._known.files != files:
            chosen = choose_for(files, self._settings.engine)
            if chosen.description is None or chosen.choice.entry.name != OWN_ENGINE:
                return None
            self._known = _Known(files, chosen.description, plan_for(files, self._settings))
        return self._known


@dataclass(frozen=True, slots=True)
class _Known:
    files: ModelFiles
    description: ModelDescription
    plan: Plan


def needed_bytes(description: ModelDescription, plan: Plan, n_tokens: int) -> int:
    """What a process takes that has loaded a model and computed one text of so many tokens."""
    step_tokens = min(plan.prefill_chunk_tokens.value, n_tokens)
    cache_bytes = kv_cache_bytes(description.spec, n_tokens, kv_type=plan.kv_type.value, step_tokens=step_tokens)
    weights_bytes = packed_weights_bytes(description.tensors.values())
    return MemoryEstimate(weights_bytes, cache_bytes, working_bytes(description.spec, step_tokens)).total_bytes


def _resident_bytes() -> int:
    import psutil

    n_bytes: int = psutil.Process().memory_info().rss
    return n_bytes


def _ratios(
    profile: MachineProfile, description: ModelDescription, plan: Plan, usage: Usage, timings: Timings
) -> dict[Quantity, float]:
    depth_tokens = usage.prompt_tokens + usage.completion_tokens // 2
    forecast = _speed(profile, description, plan, max(depth_tokens, 1), {})
    ratios: dict[Quantity, float] = {}
    decode, prompt = timings.decode_tokens_per_s, timings.prompt_tokens_per_s
    if decode is not None and timings.decode_tokens >= SHORTEST_DECODE_TOKENS and not timings.drafted_tokens:
        ratios["decode"] = decode / forecast.decode_tokens_per_s
    if prompt is not None and timings.prompt_tokens_read >= SHORTEST_PROMPT_TOKENS and not usage.cached_tokens:
        ratios["prompt"] = prompt / forecast.prompt_tokens_per_s
    return ratios
