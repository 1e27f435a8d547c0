"""What this machine's kernels do, measured in about five seconds on decoders made for it: a MachineProfile.

Every figure is the time of whole steps of the core, the same code that answers. What a step takes beside its matrices
comes from decoders so narrow that their matrices hardly count, and what attention takes from steps at two depths, of
decoders that differ in how many heads share keys and values. More of these are read than caches hold: a model's weights
drive them out before each step. The weights are noise: no value changes how long a kernel takes, unless it is zero,
infinite, or too small to be normal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from madang import __version__, _core
from madang.formats.spec import DecoderSpec, RopeSpec
from madang.formats.tensors import TensorType
from madang.hardware import CacheSpeed, Machine, MachineProfile, TypeSpeed, row_elements
from madang.hardware.kv_cache import KV_PAGE_TOKENS, KV_TYPES, kv_position_bytes
from madang.hardware.memory import packed_bits
from madang.hardware.profile import effective_cache_bytes
from madang.native.loader import decoder_shape

_T = TensorType
# Types that lie in memory in forms of their own, and are common; others take the speed of the most similar one.
MEASURED_TYPES: Final = (
    *(_T.Q8_0, _T.Q4_0, _T.Q4_1, _T.Q5_0, _T.Q5_1, _T.Q2_K, _T.Q3_K, _T.Q4_K, _T.Q5_K, _T.Q6_K),
    *(_T.IQ4_NL, _T.IQ4_XS, _T.F16, _T.BF16, _T.F32),
)
CHUNK_TOKENS: Final = 256
DEPTH_TOKENS: Final = 4096
# What a kernel can do shows with so many bytes, a part of which is in a cache; how fast memory is, with far more. Both
# tell how much a cache is good for.
DECODE_BYTES: Final = 80_000_000
MEMORY_BYTES: Final = 400_000_000
PASSES: Final = 2
LEAST_S: Final = 0.02  # that a figure is measured for, in each pass
MEMORY_S: Final = 0.25  # the same of memory, which is not equally fast all the time
MOST_S: Final = 0.3
FEWEST_ROUNDS: Final = 4
# From when on nothing is measured again, and waited for no longer than for one round: other programs compute.
LATEST_S: Final = 9.0

_Key: TypeAlias = tuple[str, str]  # what is measured, and of which type

_ROUND_S = 1e-3
_CLEAN_SHARE = 0.9
_SHORTEST_S = 1e-15
_ONE = "one thread"
_OF_MEMORY = ("decode", "memory", "alone", "shared")
_VOCABULARY = 64
_ROPE = RopeSpec("half", (1.0,) * 32)
_NORM = 1e-3  # keeps what lies in the cache within float16
_LOWEST, _HIGHEST = 0x30, 0x40  # bytes of weights: as the highest one of a float, 2^-31 to 2
_NO_OUTPUTS = np.zeros(0, np.int32)


def measure_machine(
    machine: Machine, *, threads: int | None = None, types: Iterable[TensorType] = MEASURED_TYPES
) -> MachineProfile:
    """Compute for some seconds, on all cores unless told otherwise, and say how fast it was.

    The figures are those of a machine with nothing else to do: everything is measured at different times, and what
    was undisturbed counts. On a busy machine it ends after some ten seconds more, with figures that are disturbed.
    """
    threads = threads or machine.physical_cores or 1
    kinds = tuple(dict.fromkeys((_T.Q8_0, *types)))
    timings = _measure(kinds, threads)
    seconds = {key: timing.seconds for key, timing in timings.items()}
    step_s, waiting_s = _waiting_s(seconds)
    caches = {kv_type: _cache_speed(seconds, kv_type) for kv_type in KV_TYPES}
    pair_s = 1 / caches[KV_TYPES[0]].prompt_pairs_per_s
    row_s = _row_s(seconds, pair_s)

    def rate(kind: TensorType, n_bytes: int, name: str, of: str) -> float:
        """Of weights alone: rows are one thread's work when there is one token."""
        layer_s = waiting_s + row_s * threads * row_elements(_WIDE)
        return _bytes_per_s(kind, n_bytes, seconds[name, of], step_s, layer_s)

    def speed(kind: TensorType) -> TypeSpeed:
        token_s = seconds["chunk", kind.name] / CHUNK_TOKENS
        products_s = token_s - row_s * row_elements(_WIDE) - pair_s * _chunk_pairs(_WIDE)
        multiplies_per_s = _weights(_WIDE) / max(products_s, token_s / 2)
        return TypeSpeed(rate(kind, DECODE_BYTES, "decode", kind.name), multiplies_per_s)

    memory_rate = rate(_T.Q8_0, MEMORY_BYTES, "memory", "")
    held = 1 - memory_rate / max(rate(_T.Q8_0, DECODE_BYTES, "decode", _T.Q8_0.name), memory_rate)

    return MachineProfile(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        cpu=machine.cpu,
        isa=_core.available_isas()[0],
        threads=threads,
        types={kind: speed(kind) for kind in kinds},
        memory_bytes_per_s=memory_rate,
        cache_bytes=effective_cache_bytes(DECODE_BYTES, held),
        caches=caches,
        step_s=step_s,
        layer_s=waiting_s,
        row_elements_per_s=1 / row_s,
        one_thread=(_one_thread(seconds, "memory", ""), _one_thread(seconds, "chunk", _T.Q8_0.name)),
        disturbed_share=sum(timing.is_disturbed for timing in timings.values()) / len(timings),
    )


def _measure(kinds: Sequence[TensorType], threads: int) -> dict[_Key, _Timing]:
    """Every figure, at several times as long as there is time."""
    deadline_s = time.perf_counter() + LATEST_S
    found: dict[_Key, list[_Timing]] = {}
    for n_pass in range(PASSES):
        for key, measure in _figures(kinds, threads):
            if n_pass == 0 or time.perf_counter() < deadline_s:
                found.setdefault(key, []).append(measure(deadline_s))
    return {key: _together(key, timings) for key, timings in found.items()}


def _together(key: _Key, timings: Sequence[_Timing]) -> _Timing:
    """Of the undisturbed ones the mean, where memory is what takes the time, and the best of what kernels compute.

    Memory that is shared is not equally fast at all times, so its best moment is not what a model will have.
    """
    counted = [timing for timing in timings if not timing.is_disturbed]
    if not counted or key[0] not in _OF_MEMORY:
        return min(timings)
    return _Timing(False, sum(timing.seconds for timing in counted) / len(counted))


def _figures(kinds: Iterable[TensorType], threads: int) -> Iterator[tuple[_Key, Callable[[float], _Timing]]]:
    """Everything that is measured: what it is, and what finds the seconds of a step until some time."""
    q8 = _T.Q8_0
    for name, spec in (("few", _FEW), ("many", _MANY)):
        yield (name, ""), partial(_step_s, spec, q8, threads)
    yield ("narrow", ""), partial(_step_s, _NARROW, q8, threads, n_tokens=CHUNK_TOKENS)
    for kv_type in KV_TYPES:
        for name, spec, n_tokens in (("alone", _ALONE, 1), ("shared", _SHARED, 1), ("tokens", _DEEP, CHUNK_TOKENS)):
            yield (name, kv_type), partial(_attention_s, spec, threads, kv_type, n_tokens)
    for kind in kinds:
        yield ("chunk", kind.name), partial(_step_s, _WIDE, kind, threads, n_tokens=CHUNK_TOKENS)
        yield ("decode", kind.name), partial(_step_s, _wide(_n_layers(kind, DECODE_BYTES)), kind, threads)
    yield ("chunk", _ONE), partial(_step_s, _WIDE, q8, 1, n_tokens=CHUNK_TOKENS)
    large = _wide(_n_layers(q8, MEMORY_BYTES))
    for name, n_threads in (("", threads), (_ONE, 1)):
        yield ("memory", name), partial(_step_s, large, q8, n_threads, least_s=MEMORY_S)


def _step_s(
    spec: DecoderSpec,
    kind: TensorType,
    threads: int,
    deadline_s: float,
    *,
    n_tokens: int = 1,
    least_s: float = LEAST_S,
) -> _Timing:
    return _Steps(spec, kind, threads).seconds(n_tokens, deadline_s, least_s=least_s)


def _attention_s(spec: DecoderSpec, threads: int, kv_type: str, n_tokens: int, deadline_s: float) -> _Timing:
    """What tokens behind many others take longer than the first ones."""
    steps = _Steps(spec, _T.Q8_0, threads, kv_type)
    deep, first = (steps.seconds(n_tokens, deadline_s, depth) for depth in (DEPTH_TOKENS, 0))
    return _Timing(deep.is_disturbed or first.is_disturbed, deep.seconds - first.seconds)


def _spec(n_layers: int, n_embd: int, n_ff: int, n_heads: int, n_kv_heads: int) -> DecoderSpec:
    return DecoderSpec(
        architecture="measured",
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=64,
        n_ff=n_ff,
        vocab_size=_VOCABULARY,
        context_tokens=2 * DEPTH_TOKENS,
        norm_epsilon=1e-5,
        ropes=(_ROPE,) * n_layers,
        window_tokens=(0,) * n_layers,
    )


def _wide(n_layers: int) -> DecoderSpec:
    return _spec(n_layers, 1024, 4096, 16, 4)


_FEW, _MANY = _spec(4, 64, 64, 1, 1), _spec(36, 64, 64, 1, 1)
_WIDE = _wide(1)
_NARROW = _spec(16, 128, 256, 2, 1)
_DEEP = _spec(8, 256, 64, 16, 4)
# 96 MiB of cache at the depth, with float16, for a head of the query each and for eight.
_ALONE, _SHARED = _spec(12, 256, 64, 8, 8), _spec(24, 256, 64, 32, 4)
_SEEING = (("alone", _ALONE), ("shared", _SHARED))


def _matrices(spec: DecoderSpec) -> dict[str, tuple[int, int]]:
    """Of one layer: rows and columns."""
    heads, kv_heads = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    return {
        "query": (heads, spec.n_embd),
        "key": (kv_heads, spec.n_embd),
        "value": (kv_heads, spec.n_embd),
        "attention_output": (spec.n_embd, heads),
        "ffn_gate": (spec.n_ff, spec.n_embd),
        "ffn_up": (spec.n_ff, spec.n_embd),
        "ffn_down": (spec.n_embd, spec.n_ff),
    }


def _weights(spec: DecoderSpec) -> int:
    """Of one layer's matrices."""
    return sum(rows * columns for rows, columns in _matrices(spec).values())


class _Timing(NamedTuple):
    """Of one step. Undisturbed ones come first in order, then shorter ones."""

    is_disturbed: bool  # by other processes, in every round
    seconds: float


class _Steps:
    """A decoder with weights of one type, and steps of one sequence."""

    def __init__(self, spec: DecoderSpec, kind: TensorType, threads: int, kv_type: str = KV_TYPES[0]) -> None:
        self._decoder = _core.Decoder(decoder_shape(spec), threads, "", 0.0, _core.KvType[kv_type])
        norm = np.full(spec.n_embd, _NORM, np.float32).view(np.uint8)
        largest = max(rows * columns for rows, columns in (*_matrices(spec).values(), (_VOCABULARY, spec.n_embd)))
        n_bytes = largest // kind.block_elements * kind.block_bytes
        self._noise = np.random.default_rng(0).integers(_LOWEST, _HIGHEST, n_bytes, np.uint8)
        self._set("token_embedding", kind, _VOCABULARY, spec.n_embd)
        self._decoder.set_tensor("output_norm", int(_T.F32), 1, spec.n_embd, norm)
        for layer in range(spec.n_layers):
            for name, (rows, columns) in _matrices(spec).items():
                self._set(f"{layer}.{name}", kind, rows, columns)
            for name in ("attention_norm", "ffn_norm"):
                self._decoder.set_tensor(f"{layer}.{name}", int(_T.F32), 1, spec.n_embd, norm)
        self._decoder.complete()

    def _set(self, name: str, kind: TensorType, rows: int, columns: int) -> None:
        n_bytes = rows * columns // kind.block_elements * kind.block_bytes
        self._decoder.set_tensor(name, int(kind), rows, columns, self._noise[:n_bytes])

    def seconds(self, n_tokens: int, deadline_s: float, depth_tokens: int = 0, *, least_s: float = LEAST_S) -> _Timing:
        """A step of so many tokens behind so many others, whose keys and values are whatever lies in new pages."""
        n_pages = -(-(depth_tokens + n_tokens) // KV_PAGE_TOKENS)
        if n_pages > self._decoder.n_pages:
            self._decoder.reserve_pages(n_pages)
        tokens, sequences = np.zeros(n_tokens, np.int32), np.zeros(n_tokens, np.int32)
        positions = np.arange(depth_tokens, depth_tokens + n_tokens, dtype=np.int32)
        pages = np.arange(n_pages, dtype=np.int32)[np.newaxis]

        def step() -> None:
            self._decoder.step(tokens, positions, sequences, pages, _NO_OUTPUTS)

        return _typical(step, self._decoder.n_threads, least_s, deadline_s)


def _typical(work: Callable[[], None], threads: int, least_s: float, deadline_s: float) -> _Timing:
    """Seconds of one call: of the rounds in which nobody else took the processors, the median.

    Threads of the core wait awake, so a process that got less time than all of its threads could have was kept waiting.
    """
    work()
    n_calls = max(1, round(_ROUND_S / _seconds_of(work, 1)[0]))
    clean: list[float] = []
    shortest_s = float("inf")
    begin_s = now_s = time.perf_counter()
    end_s = min(begin_s + MOST_S, deadline_s)
    while shortest_s == float("inf") or (now_s < end_s and (len(clean) < FEWEST_ROUNDS or now_s < begin_s + least_s)):
        wall_s, cpu_s = _seconds_of(work, n_calls)
        shortest_s = min(shortest_s, wall_s / n_calls)
        if cpu_s >= _CLEAN_SHARE * threads * wall_s:
            clean.append(wall_s / n_calls)
        now_s = time.perf_counter()
    return _Timing(False, sorted(clean)[len(clean) // 2]) if clean else _Timing(True, shortest_s)


def _seconds_of(work: Callable[[], None], n_calls: int) -> tuple[float, float]:
    """What passed on the clock, and of the processors' time."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(n_calls):
        work()
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


def _waiting_s(seconds: Mapping[_Key, float]) -> tuple[float, float]:
    """Of a step and of each layer, where next to nothing is read or computed."""
    few, many = seconds["few", ""], seconds["many", ""]
    layer_s = max(many - few, 0.0) / (_MANY.n_layers - _FEW.n_layers)
    return max(few - _FEW.n_layers * layer_s, 0.0), layer_s


def _cache_speed(seconds: Mapping[_Key, float], kv_type: str) -> CacheSpeed:
    """Bytes and pairs of one token's step: the rates with which two decoders take as long as they do."""
    bytes_s, pairs_s = _unmixed(
        *((_seen_bytes(spec, kv_type), _seen_pairs(spec), seconds[name, kv_type]) for name, spec in _SEEING)
    )
    prompt_s = max(seconds["tokens", kv_type], _SHORTEST_S)
    return CacheSpeed(1 / bytes_s, 1 / pairs_s, CHUNK_TOKENS * _seen_pairs(_DEEP) / prompt_s)


def _seen_bytes(spec: DecoderSpec, kv_type: str) -> float:
    return kv_position_bytes(spec, kv_type) * DEPTH_TOKENS * spec.n_layers


def _seen_pairs(spec: DecoderSpec) -> float:
    return float(spec.n_heads * spec.head_dim * DEPTH_TOKENS * spec.n_layers)


def _unmixed(*sums: tuple[float, float, float]) -> tuple[float, float]:
    """The costs a and b of two kinds of work, of which two mixtures m, n are known with m a + n b; each above 0."""
    amounts = np.array([amount for *amount, _ in sums])
    costs = np.linalg.solve(amounts, np.array([total for *_, total in sums]))
    # Where noise made one of them negative, the other is to explain all.
    alone = sum(total for *_, total in sums) / amounts.sum(axis=0)
    first, second = (min(max(float(cost), _SHORTEST_S), float(most)) for cost, most in zip(costs, alone, strict=True))
    return first, second


def _row_s(seconds: Mapping[_Key, float], pair_s: float) -> float:
    """Of one element of activations: the rest of two layers, of which one has far more weights for each of them."""
    steps = ((_WIDE, seconds["chunk", _T.Q8_0.name]), (_NARROW, seconds["narrow", ""]))
    rests = [step_s / CHUNK_TOKENS / spec.n_layers - pair_s * _chunk_pairs(spec) for spec, step_s in steps]
    _, row_s = _unmixed(
        *((_weights(spec), row_elements(spec), rest) for (spec, _), rest in zip(steps, rests, strict=True))
    )
    return row_s


def _chunk_pairs(spec: DecoderSpec) -> float:
    """Elements of queries times positions, of the average token of the first chunk in one layer."""
    return spec.n_heads * spec.head_dim * (CHUNK_TOKENS + 1) / 2


def _n_layers(kind: TensorType, n_bytes: int) -> int:
    """So many wide ones take about that."""
    return max(round(n_bytes * 8 / packed_bits(kind) / _weights(_WIDE)), 1)


def _bytes_per_s(kind: TensorType, n_bytes: int, seconds: float, step_s: float, layer_s: float) -> float:
    n_layers = _n_layers(kind, n_bytes)
    read_s = max(seconds - step_s - n_layers * layer_s, seconds / 2)
    return n_layers * _weights(_WIDE) * packed_bits(kind) / 8 / read_s


def _one_thread(seconds: Mapping[_Key, float], step: str, kind: str) -> float:
    """The speed of one thread, as a part of that of all."""
    return min(seconds[step, kind] / seconds[step, _ONE], 1.0)
