"""What a fine-tuning is asked to be: a frozen value, read from TOML, every number bounded."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, get_args

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.writing import write_atomically

Method = Literal["full", "lora", "qlora"]
METHODS: Final[tuple[str, ...]] = get_args(Method)
TooLong = Literal["drop", "cut", "refuse"]
DTYPES: Final = ("float32", "bfloat16")
MAX_CONFIG_BYTES: Final = 1 << 16

# Both ends included; what is None stays None.
_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "rank": (1, 1024),
    "alpha": (0.001, 65536),
    "dropout": (0, 0.9),
    "learning_rate": (1e-8, 1),
    "epochs": (0.001, 1000),
    "steps": (1, 10_000_000),
    "batch_tokens": (16, 10_000_000),
    "row_tokens": (16, 1_000_000),
    "max_tokens": (8, 1_000_000),
    "warmup_share": (0, 1),
    "weight_decay": (0, 1),
    "max_grad_norm": (1e-6, 1e6),
    "validation_share": (0, 0.5),
    "validation_examples": (1, 100_000),
    "examples": (1, 100_000_000),
    "evaluate_every": (1, 1_000_000),
    "patience": (0, 1000),
    "checkpoint_every": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
    "threads": (1, 1024),
    "task_items": (1, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """One run. None leaves the choice to :func:`madang.training.planning.plan_run`, which says why.

    model                 reference of the base: a name, a GGUF file, a Hugging Face folder
    data, form            examples, and how they are written where the file does not tell
    system                message that begins each conversation that has none of its own
    method                "full", "lora" or "qlora" (base in NF4, its scales quantized, too)
    rslora, dora          scale by alpha/sqrt(rank) (Kalajdzievski 2023); learn magnitudes apart (Liu et al. 2024)
    adapter               LoRA adapter to go on from
    batch_tokens          tokens that one optimizer step learns from, gathered from rows of at most ``row_tokens``
    max_tokens, too_long  longest example, and what becomes of longer ones
    patience              evaluations without a better held-out loss after which the run ends; 0 never ends early
    validation            file of held-out examples; None keeps ``validation_share`` of the data
    forgetting            text whose perplexity is measured before and after; None is the built-in one
    tasks, task_items     names of evaluation/tasks with commas between, and of each the items that are asked
    """

    model: str
    data: str
    form: str | None = None
    system: str | None = None
    method: Method = "lora"
    rank: int = 16
    alpha: float | None = None
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    adapter: str | None = None
    learning_rate: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_tokens: int | None = None
    row_tokens: int | None = None
    max_tokens: int | None = None
    too_long: TooLong = "drop"
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    validation: str | None = None
    validation_share: float = 0.1
    validation_examples: int = 200
    examples: int | None = None
    evaluate_every: int | None = None
    patience: int = 3
    checkpoint_every: int | None = None
    gradient_checkpointing: bool | None = None
    dtype: str | None = None
    threads: int | None = None
    seed: int = 0
    forgetting: str | None = None
    tasks: str | None = None
    task_items: int = 100

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidRequest(f"{name} is {value:g}, but must be from {low:g} to {high:g}.", param=name)
        _one_of("method", self.method, METHODS)
        _one_of("too_long", self.too_long, get_args(TooLong))
        if self.dtype is not None:
            _one_of("dtype", self.dtype, DTYPES)
        if self.steps is not None and self.epochs is not None:
            raise InvalidRequest("steps and epochs exclude each other.", param="steps", hint="Give one of them.")
        if self.method == "full" and (self.dora or self.rslora or self.adapter is not None):
            raise InvalidRequest(
                "dora, rslora and adapter belong to LoRA, but method is 'full'.",
                param="method",
                hint="Leave them out, or choose lora or qlora.",
            )

    @property
    def scale_alpha(self) -> float:
        """LoRA's alpha: twice the rank where nobody chose, so that its factor is 2 whatever the rank."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def to_dict(self) -> dict[str, Any]:
        """What was chosen, as JSON and TOML hold it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


_KINDS: Final = {field.name: str(field.type) for field in fields(TuneConfig)}


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownOption(name, value, known)


def config_of(values: Mapping[str, Any]) -> TuneConfig:
    """From what TOML, JSON or a command line holds. Raises UnknownOption for a key, InvalidRequest for a value."""
    checked = {name: _typed(name, value) for name, value in values.items() if value is not None}
    for name in ("model", "data"):
        if name not in checked:
            raise InvalidRequest(
                f"The run has no {name}.", param=name, hint=f'Add {name} = "…" to the file, or give --{name}.'
            )
    return TuneConfig(**checked)


def _typed(name: str, value: Any) -> Any:
    if name not in _KINDS:
        raise UnknownOption("setting of a run", name, list(_KINDS))
    kind = _KINDS[name].removesuffix(" | None")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "float" and is_number:
        return float(value)
    fits = {
        "int": is_number and isinstance(value, int),
        "bool": isinstance(value, bool),
    }.get(kind, isinstance(value, str) and value != "")
    if not fits or kind == "float":
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(kind, "text")
        raise InvalidRequest(f"{name} is {value!r}, but must be {wanted}.", param=name)
    return value


def recipe_names() -> tuple[str, ...]:
    """The configurations that come with the package."""
    folder = files("madang.training") / "recipes"
    return tuple(sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")))


def read_values(name: str) -> dict[str, Any]:
    """The table of a TOML file, or of the recipe of that name; paths in a file are relative to it.

    Raises InvalidRequest with the line of what is no TOML, UnknownOption for a recipe that there is not.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        _one_of("recipe", name, recipe_names())
        return tomllib.loads((files("madang.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidRequest(f"{path} is longer than {MAX_CONFIG_BYTES} bytes.", param="config")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", param="config") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}.", param="config") from error
    return {key: _beside(path, value) if key in _PATHS else value for key, value in values.items()}


_PATHS: Final = ("data", "validation", "forgetting", "adapter")


def _beside(config: Path, value: Any) -> Any:
    """A relative path as the file means it, if something is there; else it may be a name."""
    if not isinstance(value, str):
        return value
    found = config.parent / Path(value).expanduser()
    return str(found) if found.exists() else value


def write_config(path: Path, config: TuneConfig) -> None:
    """As TOML that :func:`read_values` reads."""
    lines = [f"{name} = {_toml(value)}" for name, value in config.to_dict().items()]
    write_atomically(path, "\n".join(lines) + "\n")


def _toml(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
