"""From a described model to a decoder in the core: read each tensor once, hand it over, keep nothing of the file."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from madang import _core
from madang.core.errors import GGUF_ENGINE, MalformedFile, NotEnoughMemory, UnknownOption, UnsupportedModel
from madang.formats.reading import OpenFile
from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec
from madang.formats.tensors import DerivedTensor, Octets, TensorSource
from madang.hardware import PageGroups, Plan, packed_weights_bytes

# How far above its row's average the largest value of a block must lie to keep 15 bits; the rest keep 8. Figures:
# docs/decisions/0002-activations.md
_OUTLIER = {"exact": 0.0, "fast": 2.5}
_RUNNABLE_TYPES = frozenset(type_id for type_id, _ in _core.tensor_types())


def load_decoder(
    name: str, description: ModelDescription, plan: Plan, groups: PageGroups | None = None
) -> _core.Decoder:
    """Repack all weights for this machine. ``name`` is the model's, for messages; ``groups`` of layers share pages.

    Raises UnknownOption for an instruction set that cannot run here, UnsupportedModel for a tensor type without a
    kernel, MalformedFile when tensors are missing or have other shapes than the model's, NotEnoughMemory.
    """
    _refuse_unknown_types(description)
    isa = _checked_isa(plan.isa.value)
    paths = {tensor.path for tensor in description.tensors.values()}
    any_tensor = next(iter(description.tensors.values()))
    try:
        shape, outlier = decoder_shape(description.spec), _OUTLIER[plan.precision.value]
        if groups is not None:
            shape.page_groups = list(groups.layers)
        decoder = _core.Decoder(shape, plan.threads.value, isa, outlier, _core.KvType[plan.kv_type.value])
        with ExitStack() as stack:
            files = {path: stack.enter_context(OpenFile(path)) for path in paths}
            for canonical, tensor in description.tensors.items():
                if canonical.startswith("rank_"):
                    continue  # reranker.py's: one small product for a whole text
                _hand_over(decoder, canonical, tensor, _read(files[tensor.path], tensor))
        decoder.complete()
    except ValueError as error:
        raise MalformedFile(any_tensor.path, str(error)) from error
    except MemoryError as error:
        raise NotEnoughMemory(name, packed_weights_bytes(description.tensors.values()), None) from error
    return decoder


def _read(file: OpenFile, tensor: TensorSource) -> Octets:
    begin, end = tensor.file_range
    data = file.read(begin, end - begin)
    if isinstance(tensor, DerivedTensor):
        return np.ascontiguousarray(tensor.make(data)).view(np.uint8).reshape(-1)
    return data


def _hand_over(decoder: _core.Decoder, name: str, tensor: TensorSource, data: Octets) -> None:
    if len(tensor.shape) > 2:
        raise MalformedFile(tensor.path, f"the tensor '{tensor.name}' has {len(tensor.shape)} dimensions")
    n_rows = tensor.shape[0] if len(tensor.shape) == 2 else 1
    decoder.set_tensor(name, int(tensor.type), n_rows, tensor.shape[-1], data)


def _refuse_unknown_types(description: ModelDescription) -> None:
    for tensor in description.tensors.values():
        if int(tensor.type) not in _RUNNABLE_TYPES:
            raise UnsupportedModel(
                f"the tensor type {tensor.type.name} ('{tensor.name}' of {tensor.path.name})", runs_with=GGUF_ENGINE
            )


def _checked_isa(isa: str) -> str:
    if isa == "auto":
        return ""
    available = _core.available_isas()
    if isa not in available:
        raise UnknownOption("instruction set on this machine", isa, available)
    return isa


def decoder_shape(spec: DecoderSpec) -> _core.DecoderShape:
    """The same facts in the form that the core takes."""
    shape = _core.DecoderShape()
    for name in _SAME_IN_SHAPE:
        setattr(shape, name, getattr(spec, name))
    ropes = list(dict.fromkeys(rope for rope in spec.ropes if rope is not None))
    shape.ropes = [_rope(rope) for rope in ropes]
    shape.layer_ropes = [-1 if rope is None else ropes.index(rope) for rope in spec.ropes]
    shape.long_rope = None if spec.long_rope is None else _rope(spec.long_rope.rope)
    shape.window_tokens = list(spec.window_tokens)
    shape.layer_norm = spec.norm == "layer"
    shape.activation = _core.Activation[spec.activation]
    if spec.experts is not None:
        shape.n_experts = spec.experts.n_experts
        shape.n_experts_used = spec.experts.n_used
        shape.experts_normalized = spec.experts.normalized
    return shape


def _rope(rope: RopeSpec) -> _core.Rope:
    return _core.Rope(rope.layout == "interleaved", list(rope.inverse_frequencies), rope.magnitude)


_SAME_IN_SHAPE = (
    "n_layers",
    "n_embd",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "n_ff",
    "vocab_size",
    "norm_epsilon",
    "norms_sum",
    "parallel",
    "gated",
    "causal",
    "attention_scale",
    "attention_softcap",
    "logit_softcap",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
)
