"""A model of which only the settings are known: what it is made of follows from its family.

The family's page reads the settings as it reads a folder's, and finds every tensor that it must have, in the shape that
they imply (implied.py). So the spec, the parameters and the bytes of a model that is nowhere on this machine come from
the code that loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from madang.formats.families.forms import PlacedTensor, place_tensors
from madang.formats.families.implied import implied_type
from madang.formats.families.sources import Blueprint
from madang.formats.families.table import describe_source, gguf_form
from madang.formats.metadata import MetadataValue
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorInfo

# Pages ask for it, and no size depends on it.
_EPSILON: Final = dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"), 1e-5)


def draw(settings: Mapping[str, MetadataValue], parts: frozenset[str] = frozenset(), name: str = "it") -> Blueprint:
    """The blueprint of these settings, in the words of config.json; ``name`` is what errors call the model.

    parts   what the model has of the parts that only some of its family have, by canonical name without the layer:
            ``query.bias``. ``output`` need not be said: it is there unless the settings tie it
    """
    return Blueprint(Path(name), MappingProxyType({**_EPSILON, **settings}), MappingProxyType({}), parts)


def describe_blueprint(blueprint: Blueprint) -> ModelDescription:
    """The canonical model. Raises UnsupportedModel for a family that is not known here, MalformedFile."""
    return describe_source(blueprint)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A GGUF file that could be written: its tensors, matrices in F16, each with the canonical names of its parts."""

    architecture: str
    tensors: tuple[tuple[TensorInfo, tuple[str, ...]], ...]


def plan_gguf(blueprint: Blueprint, description: ModelDescription) -> PlannedFile:
    """The model's GGUF file, as the converter would write it."""
    spec, form = description.spec, gguf_form(blueprint, description)
    n_experts = 0 if spec.experts is None else spec.experts.n_experts

    def planned(placed: PlacedTensor) -> tuple[TensorInfo, tuple[str, ...]]:
        shapes = [description.tensors[part].shape for part in placed.parts]
        shape = shapes[0] if placed.reshaped is None else placed.reshaped.shape(shapes)
        return TensorInfo(placed.name, implied_type(placed.parts[0]), shape, blueprint.path, 0), placed.parts

    placed = place_tensors(form.names, "", description.tensors, spec.n_layers, n_experts)
    return PlannedFile(form.architecture, tuple(map(planned, placed)))
