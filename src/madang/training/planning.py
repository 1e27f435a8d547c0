"""How a run will be: every value that nobody chose, with its reason, the memory and the time that it takes.

Bytes are of the process that trains. What activations take was compared with measured peaks (docs/log.md); what does
not fit is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from madang.core.errors import NotEnoughMemory
from madang.core.units import format_bytes
from madang.formats.spec import DecoderSpec
from madang.hardware import Choice, Machine
from madang.training.batching import steps_of_epoch
from madang.training.config import TuneConfig
from madang.training.loss import CHUNK_TOKENS
from madang.training.models import FolderModel

_FLOAT_BYTES: Final = 4
_ADAM_BYTES: Final = 12  # a gradient and two moments in float32
_NF4_BYTES: Final = 0.52  # 4 bits, a scale of 8 bits per 64 weights, and their scales
_LIBRARIES_BYTES: Final = 535_000_000  # interpreter, torch, transformers, PEFT, bitsandbytes (130 MB of it)
_COMPILED_BYTES: Final = 85_000_000  # that their first products add
# Of what is kept on a processor: room between it that stays free. What is kept is put into the holes of freed tensors,
# and splits them. Measured as what goes away when glibc maps every tensor by itself, for a quarter more time
# (docs/log.md).
_HOLES_SHARE: Final = {"cpu": 0.6, "cuda": 0.0}
# Matrix products of a step beside what a lone product of that form does; the rest is norms, attention and adapters.
_EFFICIENCY: Final = 0.6
# Layers for whose activations the heap has room when they are computed again one by one. Measured; why it is more than
# one or two is not known.
_AGAIN_LAYERS: Final = 8
_FITTING_SHARE: Final = 0.92  # of free memory
_MAX_STEPS_BETWEEN: Final = 100
_SMALL: Final = 1_000_000_000
_DEFAULT_BATCH: Final = 2048
_LEAST_STEPS: Final = 100  # in an epoch; a batch is smaller where there would be fewer
_LEAST_BATCH: Final = 512
# Attention over a packed row costs by its square; a card has kernels that make little of that.
_ROW_TOKENS: Final = {"cpu": 384, "cuda": 4096}
_BFLOAT16_UNITS: Final = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes while a step is computed, and while the weights are read: those of the file beside those made of them."""

    weights_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    loading_bytes: int
    libraries_bytes: int = _LIBRARIES_BYTES

    @property
    def total_bytes(self) -> int:
        """Of a step, or of loading where that takes more."""
        kept = self.weights_bytes + self.optimizer_bytes + self.activations_bytes + self.logits_bytes
        return self.libraries_bytes + max(kept + _COMPILED_BYTES, self.loading_bytes)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run does, each choice with its reason.

    n_steps         optimizer steps in all
    n_trained       weights that change
    checkpoint_bytes   of one checkpoint on the disk
    eta_s           from the first step to the last, evaluations included; None where no speed was measured
    """

    device: Choice[str]
    dtype: Choice[str]
    threads: Choice[int]
    learning_rate: Choice[float]
    batch_tokens: Choice[int]
    row_tokens: Choice[int]
    max_tokens: Choice[int]
    gradient_checkpointing: Choice[bool]
    n_steps: Choice[int]
    evaluate_every: Choice[int]
    checkpoint_every: Choice[int]
    n_trained: int
    memory: TrainingMemory
    checkpoint_bytes: int
    eta_s: float | None

    def choices(self) -> dict[str, Choice[Any]]:
        """The choices by name, for people to read."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if isinstance(value, Choice)}

    def to_dict(self) -> dict[str, Any]:
        """As result.json has it."""
        chosen = {name: {"value": one.value, "reason": one.reason} for name, one in self.choices().items()}
        memory = {name: getattr(self.memory, name) for name in self.memory.__slots__}
        return {
            **chosen,
            "n_trained": self.n_trained,
            "memory": {**memory, "total_bytes": self.memory.total_bytes},
            "checkpoint_bytes": self.checkpoint_bytes,
            "eta_s": self.eta_s,
        }


def plan_run(
    config: TuneConfig,
    machine: Machine,
    model: FolderModel,
    *,
    lengths: Sequence[int] = (),
    n_held_out_tokens: int = 0,
    flops_per_s: float | None = None,
    gpu_free_bytes: int | None = None,
) -> RunPlan:
    """Settle a run.

    lengths           tokens of each example; empty where the data was not read
    flops_per_s       what a matrix product reaches in the dtype of :func:`choose_dtype`; None gives no time
    gpu_free_bytes    of the card that trains; None trains on the processor

    Raises NotEnoughMemory, with what it would take and what would take less.
    """
    device = _device(gpu_free_bytes)
    dtype = choose_dtype(config, machine, gpu_free_bytes is not None)
    batch = _batch(config, lengths)
    row = _row(config, batch.value, device.value)
    n_steps = _steps(config, lengths, batch.value)
    between = max(1, min(_MAX_STEPS_BETWEEN, n_steps.value // 5))
    n_trained = trained_weights(config, model)
    free_bytes = machine.ram_available_bytes if gpu_free_bytes is None else gpu_free_bytes
    checkpointing, memory = _fitted(config, model, dtype.value, row.value, device=device.value, free_bytes=free_bytes)
    eta_s = None
    if flops_per_s is not None:
        per_token = flops_per_token(config, model, again=checkpointing.value)
        trained_tokens = n_steps.value * min(batch.value, sum(lengths) or batch.value)
        n_evaluations = 2 + n_steps.value // between
        read_tokens = n_evaluations * n_held_out_tokens
        eta_s = (trained_tokens * per_token + read_tokens * 2 * model.n_parameters) / (flops_per_s * _EFFICIENCY)
    return RunPlan(
        device=device,
        dtype=dtype,
        threads=_threads(config, machine),
        learning_rate=_learning_rate(config, model),
        batch_tokens=batch,
        row_tokens=row,
        max_tokens=_max_tokens(config, model, row.value),
        gradient_checkpointing=checkpointing,
        n_steps=n_steps,
        evaluate_every=_given(config.evaluate_every, between, "five times in a run, every 100 steps at least"),
        checkpoint_every=_given(config.checkpoint_every, between, "with each evaluation, so little is lost"),
        n_trained=n_trained,
        memory=memory,
        checkpoint_bytes=n_trained * _FLOAT_BYTES * 3,
        eta_s=eta_s,
    )


def _given(chosen: Any, default: Any, reason: str) -> Choice[Any]:
    return Choice(default, reason) if chosen is None else Choice(chosen, "as asked for")


def _device(gpu_free_bytes: int | None) -> Choice[str]:
    if gpu_free_bytes is None:
        return Choice("cpu", "PyTorch sees no CUDA card")
    return Choice("cuda", "PyTorch sees a card")


def choose_dtype(config: TuneConfig, machine: Machine, has_gpu: bool) -> Choice[str]:
    """What products are computed in; sums, norms, losses and what is trained stay float32."""
    return Choice(config.dtype, "as asked for") if config.dtype is not None else fastest_dtype(machine.isa, has_gpu)


def fastest_dtype(isa: Sequence[str] | None, has_gpu: bool) -> Choice[str]:
    """For a card, or a processor with these instructions."""
    if has_gpu:
        return Choice("bfloat16", "cards compute it at least twice as fast")
    units = [name for name in isa or () if name in _BFLOAT16_UNITS]
    if units:
        return Choice("bfloat16", f"the processor has {units[0]}: products at about twice the speed of float32")
    return Choice("float32", "the processor has no units for bfloat16")


def _threads(config: TuneConfig, machine: Machine) -> Choice[int]:
    return _given(config.threads, machine.physical_cores or 1, "one per physical core")


def _learning_rate(config: TuneConfig, model: FolderModel) -> Choice[float]:
    is_small = model.n_parameters < _SMALL
    if config.method == "full":
        return _given(config.learning_rate, 1e-4 if is_small else 2e-5, "usual for all weights of this size")
    return _given(config.learning_rate, 1e-3 if is_small else 2e-4, "adapters take about ten times that of all weights")


def _batch(config: TuneConfig, lengths: Sequence[int]) -> Choice[int]:
    if config.batch_tokens is not None or not lengths:
        return _given(config.batch_tokens, _DEFAULT_BATCH, "steps that are stable and not too rare")
    fitting = sum(lengths) // _LEAST_STEPS
    if fitting >= _DEFAULT_BATCH:
        return Choice(_DEFAULT_BATCH, "steps that are stable and not too rare")
    return Choice(max(_LEAST_BATCH, fitting), f"smaller, as an epoch of {sum(lengths)} tokens would have few steps")


def _row(config: TuneConfig, batch_tokens: int, device: str) -> Choice[int]:
    reason = "long enough for full speed, short enough that attention over the row stays cheap"
    return _given(config.row_tokens, min(_ROW_TOKENS[device], batch_tokens), reason)


def _max_tokens(config: TuneConfig, model: FolderModel, row_tokens: int) -> Choice[int]:
    context = model.spec.context_tokens
    if config.max_tokens is not None:
        return Choice(min(config.max_tokens, context), "as asked for")
    return Choice(min(2048, context), "what most examples stay below; longer ones are counted and told")


def _steps(config: TuneConfig, lengths: Sequence[int], batch_tokens: int) -> Choice[int]:
    if config.steps is not None:
        return Choice(config.steps, "as asked for")
    in_epoch = sum(1 for _ in steps_of_epoch(lengths, config.seed, 0, batch_tokens)) if lengths else 0
    epochs = 1.0 if config.epochs is None else config.epochs
    told = "one epoch: more is forgotten than learned beyond a few" if config.epochs is None else f"{epochs:g} epochs"
    return Choice(max(1, round(in_epoch * epochs)), f"{told}, {in_epoch} steps each")


# ---- memory and time


def trained_weights(config: TuneConfig, model: FolderModel) -> int:
    """How many weights change."""
    if config.method == "full":
        return model.n_parameters
    per_matrix = sum(config.rank * (rows + columns) for rows, columns in model.layer_matrices)
    return per_matrix + (sum(rows for rows, _ in model.layer_matrices) if config.dora else 0)


def estimate_memory(
    config: TuneConfig, model: FolderModel, dtype: str, row_tokens: int, *, checkpointing: bool, device: str = "cpu"
) -> TrainingMemory:
    """Bytes of a run whose forward passes read ``row_tokens`` tokens."""
    spec = model.spec
    number_bytes = 2 if dtype == "bfloat16" else _FLOAT_BYTES
    n_trained = trained_weights(config, model)
    layer_bytes = row_tokens * kept_bytes_per_token(config, spec, number_bytes, row_tokens)
    if checkpointing:
        # A layer's input in the stream's dtype: what is trained in full is float32, and so is what it adds up to.
        stream_bytes = _FLOAT_BYTES if config.method == "full" else number_bytes
        activations = spec.n_layers * row_tokens * stream_bytes * spec.n_embd
        activations += min(_AGAIN_LAYERS, spec.n_layers) * layer_bytes
    else:
        activations = spec.n_layers * layer_bytes
    activations = int(activations * (1 + _HOLES_SHARE[device]))
    if config.dora:
        activations += max(rows * columns for rows, columns in model.layer_matrices) * 7 * _FLOAT_BYTES
    logits = CHUNK_TOKENS * spec.vocab_size * 2 * _FLOAT_BYTES  # and their exponentials
    if config.method == "full":
        logits += spec.vocab_size * spec.n_embd * _FLOAT_BYTES
    return TrainingMemory(
        _weights_bytes(config, model, number_bytes),
        n_trained * _ADAM_BYTES,
        activations,
        logits,
        # The file, and what is read from it; 4-bit weights come of all that was read ahead.
        model.n_parameters * (_FLOAT_BYTES if config.method == "full" else number_bytes)
        + sum(tensor.size_bytes for tensor in model.description.tensors.values()),
    )


def _weights_bytes(config: TuneConfig, model: FolderModel, number_bytes: int) -> int:
    if config.method == "full":
        # They stay float32; products read a copy in their own dtype, which is kept for the way back.
        return model.n_parameters * (_FLOAT_BYTES + (number_bytes if number_bytes < _FLOAT_BYTES else 0))
    in_layers = sum(rows * columns for rows, columns in model.layer_matrices)
    each = _NF4_BYTES if config.method == "qlora" else number_bytes
    outside = model.n_parameters - in_layers
    return int(in_layers * each) + outside * number_bytes + trained_weights(config, model) * _FLOAT_BYTES


def kept_bytes_per_token(config: TuneConfig, spec: DecoderSpec, number_bytes: int, row_tokens: int) -> int:
    """What one layer keeps of a token for the way back, counted from what autograd saves.

    Both norms keep their input in float32, and what they made of it where their weights are trained; products keep
    what they multiply, in their own dtype (the two norms' outputs, attention's output, and as much again for sums
    in lower precision); attention its queries, its keys and values repeated for every head, and its output; the
    inner layer the gate before and after its activation, what comes beside it, and their product; the mask a number
    for each token of the row.
    """
    floats = (4 if config.method == "full" else 2) * spec.n_embd
    products = (6 if number_bytes < _FLOAT_BYTES else 2) * spec.n_embd
    attention = 4 * spec.n_heads * spec.head_dim
    return floats * _FLOAT_BYTES + (products + attention + 4 * spec.n_ff + row_tokens) * number_bytes


def _fitted(
    config: TuneConfig, model: FolderModel, dtype: str, row_tokens: int, *, device: str, free_bytes: int | None
) -> tuple[Choice[bool], TrainingMemory]:
    kept, again = (
        estimate_memory(config, model, dtype, row_tokens, checkpointing=value, device=device) for value in (False, True)
    )
    room = None if free_bytes is None else int(free_bytes * _FITTING_SHARE)
    if config.gradient_checkpointing is not None:
        choice = Choice(config.gradient_checkpointing, "as asked for")
    elif room is None or kept.total_bytes <= room:
        choice = Choice(False, f"activations of {format_bytes(kept.activations_bytes)} fit, and nothing is done twice")
    else:
        choice = Choice(True, f"activations of {format_bytes(kept.activations_bytes)} do not fit; a third more work")
    memory = again if choice.value else kept
    if room is not None and memory.total_bytes > room:
        shortest = min(row_tokens, 256)
        least = estimate_memory(config, model, dtype, shortest, checkpointing=True, device=device).total_bytes
        raise NotEnoughMemory(
            f"Training {model.files.name} ({config.method}, {trained_weights(config, model):,} of "
            f"{model.n_parameters:,} weights, rows of {row_tokens} tokens)",
            memory.total_bytes,
            room,
            hint=_smaller(config, least, room),
        )
    return choice, memory


def _smaller(config: TuneConfig, least_bytes: int, room_bytes: int) -> str:
    if least_bytes <= room_bytes:
        return f"With --row-tokens 256 and --gradient-checkpointing it takes {format_bytes(least_bytes)}."
    if config.method != "qlora":
        other = "lora" if config.method == "full" else "qlora"
        return f"Even short rows take {format_bytes(least_bytes)}; use --method {other}."
    return f"Even short rows take {format_bytes(least_bytes)}; choose a smaller model."


def flops_per_token(config: TuneConfig, model: FolderModel, *, again: bool) -> float:
    """Of one step: forward, the gradients of activations, those of weights that are trained."""
    passes = 6 if config.method == "full" else 4
    return float((passes + (2 if again else 0)) * model.n_parameters)
