"""What a model of the catalog takes before anything of it is here: file, weights in memory, cache, speed.

With a shape all of it is counted, tensor by tensor, in the types that a preset gives them; without one, bits per weight
of a model like most others are taken, and cache and speed stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, TypeAlias

from madang.formats.families.blueprint import describe_blueprint, plan_gguf
from madang.formats.families.sources import Blueprint
from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.tensors import TensorInfo, TensorSource
from madang.hardware import Bandwidth, fitting_tokens, kv_cache_bytes, packed_weights_bytes
from madang.hardware.forecast import forecast_decode, work_of
from madang.hardware.memory import WORKING_BYTES, working_bytes
from madang.hardware.plan import PREFILL_CHUNK_TOKENS
from madang.hardware.profile import MachineProfile
from madang.models import CatalogEntry, load_catalog
from madang.quantization.presets import ModelFacts, find_preset, preset_types

# Tokens per second of a described model after so many tokens of context; None is unknown.
Speed: TypeAlias = Callable[[ModelDescription, int], float | None]

Size: TypeAlias = Callable[[CatalogEntry, str], "Sized | None"]

# Whose bits per weight stand for those of models without a shape.
_USUAL: Final = "llama2:7b"


@dataclass(frozen=True, slots=True)
class Sized:
    """A model in one type.

    file_bytes      of all tensors; what a file has beside them is its vocabulary, a few megabytes
    weights_bytes   once loaded
    description     with tensors of these types; None without a shape, and then both figures are estimates
    """

    type_name: str
    file_bytes: int
    weights_bytes: int
    description: ModelDescription | None

    def memory_bytes(self, context_tokens: int) -> int:
        """All that is needed for a context of so many tokens; the least of it where the cache is unknown."""
        cache_bytes = 0 if self.description is None else kv_cache_bytes(self.description.spec, context_tokens)
        return self.weights_bytes + cache_bytes + self._working_bytes

    def context_within(self, memory_bytes: int) -> int | None:
        """The longest context that fits; None where that is unknown."""
        room_bytes = memory_bytes - self.weights_bytes - self._working_bytes
        return None if self.description is None else fitting_tokens(self.description.spec, max(room_bytes, 0))

    @property
    def _working_bytes(self) -> int:
        if self.description is None:
            return WORKING_BYTES
        return working_bytes(self.description.spec, PREFILL_CHUNK_TOKENS)


def size_of(entry: CatalogEntry, type_name: str) -> Sized | None:
    """The model in a preset's types; None when not even its parameters are known. Raises UnknownOption."""
    blueprint = entry.blueprint()
    if blueprint is not None:
        return _counted(blueprint, type_name)
    if entry.parameters is None:
        return None
    usual, usual_parameters = _usual(type_name)
    share = entry.parameters / usual_parameters
    return Sized(type_name, round(usual.file_bytes * share), round(usual.weights_bytes * share), None)


def bandwidth_speed(bandwidth: Bandwidth | None) -> Speed:
    """The most that memory allows: each token reads every weight that it uses, and all keys and values that it sees."""

    def speed(description: ModelDescription, depth_tokens: int) -> float | None:
        if bandwidth is None or not description.spec.causal:
            return None
        n_bytes = read_bytes(description) + kv_cache_bytes(description.spec, depth_tokens)
        return bandwidth.read_bytes_per_s / n_bytes

    return speed


def forecast_speed(profile: MachineProfile) -> Speed:
    """What the native engine's kernels were measured to do on this machine."""

    def speed(description: ModelDescription, depth_tokens: int) -> float | None:
        return forecast_decode(profile, work_of(description), depth_tokens) if description.spec.causal else None

    return speed


def read_bytes(description: ModelDescription) -> int:
    """Of weights, for one token: of embeddings a row, of experts those that are used."""
    tensors, experts = description.tensors, description.spec.experts
    is_row = {"position_embedding", *(("token_embedding",) if "output" in tensors else ())}
    always = [tensor for name, tensor in tensors.items() if name not in is_row and ".expert." not in name]
    n_bytes = packed_weights_bytes(always)
    if experts is not None:
        chosen = packed_weights_bytes(tensor for name, tensor in tensors.items() if ".expert." in name)
        n_bytes += chosen * experts.n_used // experts.n_experts
    return n_bytes


@cache
def _usual(type_name: str) -> tuple[Sized, int]:
    entry = load_catalog().entries[_USUAL]
    sized = size_of(entry, type_name)
    if sized is None or entry.parameters is None:
        raise AssertionError(f"{_USUAL} has no shape")
    return sized, entry.parameters


def _counted(blueprint: Blueprint, type_name: str) -> Sized:
    description = describe_blueprint(blueprint)
    file = plan_gguf(blueprint, description)
    placed = {tensor.name: tensor for tensor, _ in file.tensors}
    types = preset_types(find_preset(type_name), list(placed.values()), _facts(file.architecture, description.spec))
    typed: dict[str, TensorSource] = {}
    for tensor, parts in file.tensors:
        for part in parts:
            source = description.tensors[part]
            typed[part] = TensorInfo(part, types[tensor.name], source.shape, source.path, 0)
    file_bytes = sum(replace(tensor, type=types[name]).size_bytes for name, tensor in placed.items())
    return Sized(type_name, file_bytes, packed_weights_bytes(typed.values()), replace(description, tensors=typed))


def _facts(architecture: str, spec: DecoderSpec) -> ModelFacts:
    n_experts = 0 if spec.experts is None else spec.experts.n_experts
    return ModelFacts(architecture, spec.n_layers, spec.n_heads, spec.n_kv_heads, n_experts)
