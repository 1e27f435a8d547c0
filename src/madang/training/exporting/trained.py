"""What is exported: a full-precision folder, and the adapter that was trained on it, if one was.

A run lies in ``runs/<id>`` of madang's home: ``adapter/`` or ``model/``, and ``result.json``. A folder that PEFT saved
and a folder of whole weights are found by what lies in them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from madang.core.errors import AdapterMismatch, CannotConvert, InvalidReference, ModelNotFound
from madang.core.progress import Progress
from madang.formats.adapters.peft import CONFIG_FILE as ADAPTER_CONFIG
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.training.models import trainable
from madang.training.runs import FOLDER, RunFolder

# What a folder says beside its weights. Of these, an adapter's own take the place of its base's: training saved them.
SETTINGS: Final = ("*.json", "*.jinja", "*.txt", "*.model")
_TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_OVERRIDING: Final = (*_TOKENIZER, "chat_template.jinja", "generation_config.json")
_WEIGHTS_INDEX: Final = ".safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    folder    a Hugging Face folder of full precision: the whole model, or the base of ``adapter``
    adapter   a PEFT folder, or None
    run       the folder of the run, or None for weights that came from elsewhere
    base      the base's name as a person gave it, for the card; None where nobody did
    """

    name: str
    folder: Path
    adapter: Path | None = None
    run: Path | None = None
    base: str | None = None

    def write_settings(self, target: Path) -> None:
        """Config, tokenizer and template into the existing folder ``target``, as they were trained with."""
        for pattern in SETTINGS:
            for file in sorted(self.folder.glob(pattern)):
                if not file.name.endswith(_WEIGHTS_INDEX):
                    shutil.copyfile(file, target / file.name)
        if self.adapter is None:
            return
        own = [name for name in _OVERRIDING if (self.adapter / name).is_file()]
        for name in own:
            shutil.copyfile(self.adapter / name, target / name)

    @property
    def result(self) -> dict[str, Any]:
        """What the run says of itself; empty without one."""
        return {} if self.run is None else RunFolder(self.run).read("result") or {}


def find_trained(reference: str, home: Path, base: str | None = None, *, progress: Progress | None = None) -> Trained:
    """The run of this id, the folder of a run, a folder of weights, or a PEFT folder.

    base   the model that the adapter was trained on; None is the one that its run or its adapter_config.json names

    Raises ModelNotFound, AdapterMismatch for a base that changed since, CannotConvert for one of few bits: what is
    folded into it is lost in its rounding; and what ``trainable`` raises for a base that is no folder.
    """
    given = Path(reference).expanduser()
    folder = (given if given.is_dir() else home / FOLDER / reference).resolve()
    if not folder.is_dir():
        raise ModelNotFound(reference, hint=f"It is neither a folder nor a run in {home / FOLDER}.")
    run = RunFolder(folder)
    begun_with = run.read("base") or {}
    run_folder = folder if begun_with else None
    weights = next((own for own in (run.adapter, run.model) if own.is_dir()), folder)
    if (weights / ADAPTER_CONFIG).is_file():
        whole, name = _base_of(weights, begun_with, home, base, progress)
        require_full_precision(whole)
        return Trained(folder.name, whole, weights, run_folder, name)
    if (weights / CONFIG_FILE).is_file():
        require_full_precision(weights)
        return Trained(folder.name, weights, None, run_folder, begun_with.get("model"))
    raise ModelNotFound(
        str(folder),
        hint=f"It holds neither {CONFIG_FILE} nor {ADAPTER_CONFIG}."
        if run_folder is None
        else f"The run has not ended. Go on with: madang tune --resume {run.id}",
    )


def _base_of(
    adapter: Path, begun_with: Mapping[str, Any], home: Path, given: str | None, progress: Progress | None
) -> tuple[Path, str]:
    """The folder of an adapter's base, and how a person names it."""
    in_config = read_json_object(adapter / ADAPTER_CONFIG, MAX_CONFIG_BYTES).get("base_model_name_or_path")
    stated = given or begun_with.get("model") or in_config
    hint = "Name the model that it was trained on: --base FOLDER-OR-MODEL."
    if not isinstance(stated, str) or not stated:
        raise ModelNotFound(f"{adapter.name}'s base", hint=hint)
    for own in (Path(stated), adapter / stated):
        if (own / CONFIG_FILE).is_file():
            return own, stated
    try:
        model = trainable(stated, home, progress=progress)
    except (ModelNotFound, InvalidReference) as error:
        raise ModelNotFound(f"{stated}, the base of {adapter}", hint=error.hint if given else hint) from error
    expected = begun_with.get("sha256")
    if given is None and expected not in (None, model.sha256):
        problem = f"it was trained on weights of sha256 {str(expected)[:12]}…, and {stated} has {model.sha256[:12]}…"
        raise AdapterMismatch(adapter.parent.name, "base", problem)
    return model.path, model.files.name


def require_full_precision(folder: Path) -> None:
    """Raise CannotConvert for a folder whose weights are quantized."""
    stated = read_json_object(folder / CONFIG_FILE, MAX_CONFIG_BYTES).get("quantization_config")
    if stated:
        method = stated.get("quant_method", "some method") if isinstance(stated, dict) else "some method"
        raise CannotConvert(
            f"the weights of {folder} are quantized ({str(method)[:40]}), and an adapter that is folded into such "
            "weights is lost in their rounding",
            hint="Name the base in full precision: --base FOLDER-OR-MODEL.",
        )
