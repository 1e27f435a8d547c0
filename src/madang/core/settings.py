"""What the user set, and where: command line > environment > config file > default.

The one table of settings, and the only place that is handed the environment. A value never travels without its origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.units import parse_bytes

Origin = Literal["command line", "server", "environment", "config file", "default"]
Value = Path | str | int | bool | None

KEEP_ALIVE_S = 300.0  # that an idle model stays in memory, where nobody says how long
ENV_PREFIX = "MADANG_"
CONFIG_FILE = "config.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. ``limits`` bound a number, both ends included; ``env`` names its environment variable.

    A "size" is a number of bytes, written with a unit.
    """

    name: str
    kind: Literal["path", "number", "size", "text", "switch"]
    default: str | int | bool | None
    help: str
    limits: tuple[int, int] = (0, 0)

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """The option that sets it on the command line."""
        return "--" + self.name.replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting("home", "path", "~/.madang", "where models, the configuration and the chat history are kept"),
    Setting("threads", "number", None, "threads that compute; unset takes what the plan finds best", (1, 1024)),
    Setting(
        "context", "number", None, "context in tokens, prompt and answer; unset follows model and memory", (1, 2**24)
    ),
    Setting("kv_memory", "size", None, "most memory for the caches of all conversations; unset follows the machine"),
    Setting(
        "kv_type", "text", None, "how caches keep keys and values: f16 (unset), or int8 in about half of the memory"
    ),
    Setting("concurrency", "number", None, "answers that are computed side by side; more of them wait", (1, 1024)),
    Setting("speculation", "text", None, "guess tokens ahead: ngram from the text (unset), draft:MODEL, or off"),
    Setting("isa", "text", None, "instruction set of the native engine; unset takes the best one this CPU has"),
    Setting("precision", "text", None, "of the native engine: exact (unset), or fast for quicker prompts"),
    Setting("engine", "text", None, "engine that runs models; unset takes the first one that reads the model's format"),
    Setting("device", "text", None, "where transformers computes: cpu, cuda, cuda:1 or mps; unset takes the best"),
    Setting("dtype", "text", None, "what transformers computes in: float32, bfloat16 or float16; unset: by device"),
    Setting(
        "quantize", "text", None, "weights that transformers shrinks while it loads: nf4, fp4 or int8; unset: none"
    ),
    Setting("attention", "text", None, "how transformers attends: sdpa, eager or flash_attention_2; unset: the best"),
    Setting("hf_endpoint", "text", None, "address of the hub that 'hf:' means; unset: HF_ENDPOINT, or huggingface.co"),
    Setting("ollama_registry", "text", None, "address of the registry that 'ollama:' means; unset: Ollama's own"),
    Setting("connections", "number", None, "connections that a pull uses at once; unset: 4", (1, 32)),
    Setting("reuse", "switch", True, "use files that other programs (Hugging Face, Ollama, LM Studio) have already"),
    Setting("offline", "switch", False, "fetch nothing from anywhere"),
    Setting("remote_key", "text", None, "name of the environment variable that holds the key of a remote server"),
    Setting("document_roots", "text", None, "folders whose documents a server may read for managers, as PATH has them"),
    Setting(
        "qdrant_url", "text", None, "address of a Qdrant server for the vectors of documents; unset: in this process"
    ),
    Setting("traces", "switch", False, "send OpenTelemetry traces of the server; OTEL_* variables say where to"),
    Setting("describe", "switch", True, "have the model of each session title and summarise it, when idle"),
    Setting("debug", "switch", False, "show the full traceback when something unexpected happens"),
)

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")

_OF_NEIGHBOURS = (
    *("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"),
    *("OLLAMA_MODELS", "HOME", "USERPROFILE"),
)

# Variables that are not settings: tests look for their data there, and a secret is not shown with the settings.
_QDRANT_KEY = "MADANG_QDRANT_KEY"
_NOT_SETTINGS = ("MADANG_TEST_DATA", "MADANG_TEST_CACHE", "MADANG_API_KEY", _QDRANT_KEY)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value; ``origins`` says where each came from. None leaves the choice to madang.

    secret       what the variable that ``remote_key`` names holds; it is in no row and no repr
    qdrant_key   what MADANG_QDRANT_KEY holds; neither is it
    neighbours   variables that tell where other programs keep their models, as they are
    """

    home: Path
    threads: int | None
    context: int | None
    kv_memory: int | None
    kv_type: str | None
    concurrency: int | None
    speculation: str | None
    isa: str | None
    precision: str | None
    engine: str | None
    device: str | None
    dtype: str | None
    quantize: str | None
    attention: str | None
    hf_endpoint: str | None
    ollama_registry: str | None
    connections: int | None
    reuse: bool
    offline: bool
    remote_key: str | None
    document_roots: str | None
    qdrant_url: str | None
    traces: bool
    describe: bool
    debug: bool
    origins: Mapping[str, Origin]
    secret: str | None = field(default=None, repr=False)
    qdrant_key: str | None = field(default=None, repr=False)
    neighbours: Mapping[str, str] = field(default_factory=dict, repr=False)

    def for_all_models(self) -> Settings:
        """For a server, whose command line is about all its models: those without use for a word run as well."""
        origins: dict[str, Origin] = {
            name: "server" if origin == "command line" else origin for name, origin in self.origins.items()
        }
        return replace(self, origins=origins)

    def rows(self) -> Iterator[tuple[Setting, Value, Origin]]:
        """The whole table, in order, for people to read."""
        for setting in SETTINGS:
            yield setting, getattr(self, setting.name), self.origins[setting.name]


def load_settings(command_line: Mapping[str, Value], environment: Mapping[str, str]) -> Settings:
    """Settle every setting. In ``command_line``, None is an option that was not given.

    Reads ``<home>/config.toml`` if it exists. Raises :class:`InvalidRequest` for a value that makes no sense, naming
    where it came from, and :class:`UnknownOption` for a key that does not exist.
    """
    for name in command_line:
        _setting(name)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    config: Mapping[str, object] = {}
    for setting in SETTINGS:  # home comes first: it says where the config file is
        raw, origin, where = _pick(setting, command_line, environment, config)
        values[setting.name] = _parsed(setting, raw, where)
        origins[setting.name] = origin
        if setting.name == "home":
            config = _read_config(values["home"] / CONFIG_FILE)
    neighbours = {name: environment[name] for name in _OF_NEIGHBOURS if environment.get(name)}
    return Settings(
        **values,
        origins=origins,
        secret=_secret(values["remote_key"], environment),
        qdrant_key=environment.get(_QDRANT_KEY) or None,
        neighbours=neighbours,
    )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like settings but are none, each with the setting that is close to it, if one is."""
    known = {setting.name: setting.env for setting in SETTINGS}
    found: dict[str, str | None] = {}
    for variable in sorted(environment):
        if variable.startswith(ENV_PREFIX) and variable not in (*known.values(), *_NOT_SETTINGS):
            close = get_close_matches(variable.removeprefix(ENV_PREFIX).lower(), known, n=1)
            found[variable] = known[close[0]] if close else None
    return found


def _setting(name: str) -> Setting:
    for setting in SETTINGS:
        if setting.name == name:
            return setting
    raise UnknownOption("setting", name, [setting.name for setting in SETTINGS])


def _pick(
    setting: Setting,
    command_line: Mapping[str, Value],
    environment: Mapping[str, str],
    config: Mapping[str, object],
) -> tuple[object, Origin, str]:
    given = command_line.get(setting.name)
    if given is not None:
        return given, "command line", setting.option
    from_environment = environment.get(setting.env)
    if from_environment:  # an empty variable is an unset one, as shells treat it
        return from_environment, "environment", setting.env
    if setting.name in config:
        return config[setting.name], "config file", f"'{setting.name}' in {CONFIG_FILE}"
    return setting.default, "default", f"the default of '{setting.name}'"


def _read_config(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as TOML: {error}.", param=CONFIG_FILE) from error
    for name in config:
        if _setting(name).name == "home":
            raise InvalidRequest(
                f"{path} sets 'home', but it is itself looked for there.", param="home", hint="Set MADANG_HOME instead."
            )
    return config


def _parsed(setting: Setting, raw: object, where: str) -> Value:
    if raw is None:
        return None
    match setting.kind:
        case "path":
            return _path(setting, raw, where)
        case "number":
            return _number(setting, raw, where)
        case "size":
            return _size(setting, raw, where)
        case "switch":
            return _switch(setting, raw, where)
        case "text":
            if not isinstance(raw, str):
                raise _bad(setting, raw, where, "text")
            return raw


def _secret(variable: str | None, environment: Mapping[str, str]) -> str | None:
    """What the variable holds; None when there is none. What is no name may be a key by mistake, and is not shown."""
    if variable is None:
        return None
    if not _VARIABLE.fullmatch(variable):
        raise InvalidRequest(
            "remote_key is not the name of an environment variable.",
            param="remote_key",
            hint="Put the key into a variable such as MY_SERVER_KEY, and give its name.",
        )
    return environment.get(variable)


def _path(setting: Setting, raw: object, where: str) -> Path:
    if not isinstance(raw, str | Path):
        raise _bad(setting, raw, where, "a folder")
    try:
        return Path(raw).expanduser().absolute()
    except RuntimeError as error:  # no home folder can be found for this user
        raise _bad(setting, raw, where, f"a folder that exists; set {setting.env}") from error


def _number(setting: Setting, raw: object, where: str) -> int:
    low, high = setting.limits
    wanted = f"a whole number from {low} to {high}"
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise _bad(setting, raw, where, wanted)
    try:
        value = int(raw)
    except ValueError:
        raise _bad(setting, raw, where, wanted) from None
    if not low <= value <= high:
        raise _bad(setting, raw, where, wanted)
    return value


def _size(setting: Setting, raw: object, where: str) -> int:
    try:
        return parse_bytes(str(raw))
    except ValueError:
        raise _bad(setting, raw, where, "a size such as 95MB, 4GB or 512MiB") from None


def _switch(setting: Setting, raw: object, where: str) -> bool:
    if isinstance(raw, bool):
        return raw
    word = raw.lower() if isinstance(raw, str) else None
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise _bad(setting, raw, where, "1 or 0")


def _bad(setting: Setting, raw: object, where: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{where} is '{raw}', but must be {wanted}.", param=setting.name)
