"""Which engine runs a model: ours where it knows the family, else the first one installed that reads such files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from madang.core.errors import EngineUnavailable, UnsupportedModel
from madang.engines import EngineChoice, EngineEntry, choose_engine, engine_entries
from madang.formats.families import describe_model
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.formats.spec import ModelDescription
from madang.hardware import Reason
from madang.models import ModelFiles

OWN_ENGINE = "native"
MLX_ENGINE = "mlx"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine with the reason; ``description`` is of the model's insides, where it is known and the plan needs it."""

    choice: EngineChoice
    description: ModelDescription | None


def choose_for(files: ModelFiles, wanted: str | None, entries: Sequence[EngineEntry] | None = None) -> Chosen:
    """Looks at the headers of the model's files. Raises what ``choose_engine`` raises, and UnsupportedModel.

    An UnsupportedModel says which engine would run the model, and how to install it.
    """
    entries = engine_entries() if entries is None else entries
    choice = choose_engine(files.format, wanted, entries)
    if choice.entry.places:
        return Chosen(choice, None)
    try:
        return Chosen(choice, describe_model(files.path, files.format))
    except UnsupportedModel as refusal:
        if choice.entry.name != OWN_ENGINE:
            return Chosen(choice, None)
        if wanted is not None:
            raise
        return choose_instead(files, refusal, entries)


def choose_instead(
    files: ModelFiles, refusal: UnsupportedModel, entries: Sequence[EngineEntry] | None = None
) -> Chosen:
    """The engine for what our own refused, when it was chosen or as late as when it loaded the model.

    Raises UnsupportedModel, with the command that installs an engine that would run it.
    """
    entries = [entry for entry in (engine_entries() if entries is None else entries) if entry.name != OWN_ENGINE]
    if _is_made_for_mlx(files):
        entries = [entry for entry in entries if entry.name == MLX_ENGINE]
    try:
        entry = choose_engine(files.format, None, entries).entry
    except EngineUnavailable as missing:
        raise UnsupportedModel(refusal.what, runs_with=refusal.runs_with, hint=_install(missing)) from refusal
    except UnsupportedModel:
        raise refusal from None
    return Chosen(EngineChoice(entry, Reason("the native engine does not run {what}", what=refusal.what)), None)


def _is_made_for_mlx(files: ModelFiles) -> bool:
    """Whether MLX quantized the weights, which nobody else reads; others say "quantization_config"."""
    if files.format != "huggingface":
        return False
    config = read_json_object(files.path / CONFIG_FILE, MAX_CONFIG_BYTES)
    quantization = config.get("quantization")
    return isinstance(quantization, dict) and "group_size" in quantization


def _install(missing: EngineUnavailable) -> str:
    return f"{missing.message} {missing.hint}"
