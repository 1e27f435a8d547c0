"""What is exported: a full-precision folder, and the adapter that was trained on it, if one was.

A run lies in ``runs/<id>`` of madang's home: ``adapter/`` or ``model/``, and ``result.json``. A folder that PEFT saved
and a folder of whole weights are found by what lies in them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from madang.core.errors import CannotConvert, ModelNotFound
from madang.formats.adapters.peft import CONFIG_FILE as ADAPTER_CONFIG
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object

RUNS: Final = "runs"
RESULT_FILE: Final = "result.json"
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
        return {} if self.run is None else read_json_object(self.run / RESULT_FILE, MAX_CONFIG_BYTES)


def find_trained(reference: str, home: Path, base: Path | None = None) -> Trained:
    """The run of this id, the folder of a run, a folder of weights, or a PEFT folder.

    base   the folder that the adapter was trained on; None is the one that its adapter_config.json names

    Raises ModelNotFound, and CannotConvert for a base of few bits: what is folded into it is lost in its rounding.
    """
    given = Path(reference).expanduser()
    folder = given if given.is_dir() else home / RUNS / reference
    if not folder.is_dir():
        raise ModelNotFound(reference, hint=f"Neither a folder nor a run in {home / RUNS}.")
    run = folder if (folder / RESULT_FILE).is_file() or (folder / "config.toml").is_file() else None
    weights = next((own for own in (folder / "adapter", folder / "model") if own.is_dir()), folder)
    if (weights / ADAPTER_CONFIG).is_file():
        stated = read_json_object(weights / ADAPTER_CONFIG, MAX_CONFIG_BYTES).get("base_model_name_or_path")
        whole = base or _base_of(weights, stated)
        require_full_precision(whole)
        return Trained(folder.resolve().name, whole, weights, run, _name_of(run, stated))
    if (weights / CONFIG_FILE).is_file():
        require_full_precision(weights)
        return Trained(folder.resolve().name, weights, None, run, _name_of(run, None))
    raise ModelNotFound(
        str(folder),
        hint=f"It holds neither {CONFIG_FILE} nor {ADAPTER_CONFIG}: an unfinished run has nothing to export.",
    )


def _base_of(adapter: Path, stated: object) -> Path:
    if isinstance(stated, str) and stated:
        for own in (Path(stated), adapter / stated):
            if (own / CONFIG_FILE).is_file():
                return own
    raise ModelNotFound(
        f"{stated}, the base of {adapter}", hint="Name the model that it was trained on: --base FOLDER-OR-MODEL."
    )


def _name_of(run: Path | None, stated: object) -> str | None:
    """The base in a person's words: the run's, else the adapter's."""
    result = {} if run is None else read_json_object(run / RESULT_FILE, MAX_CONFIG_BYTES)
    base = result.get("base")
    for value in (base.get("model") if isinstance(base, dict) else base, stated):
        if isinstance(value, str) and value:
            return value
    return None


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
