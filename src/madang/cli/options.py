"""Arguments and options of the verbs, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeAlias

import typer

from madang.core.errors import InvalidRequest
from madang.core.sampling import SAMPLING_DEFAULTS
from madang.core.settings import Settings, Value, load_settings
from madang.core.units import parse_bytes


def _option(name: str, metavar: str, text: str, default: object = None) -> typer.models.OptionInfo:
    """An option with a value. ``default`` is only told: what holds when neither the user nor the model says more."""
    told = "" if default is None else f" Unset: the model's own, else {default}."
    info: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text + told)
    return info


# ---- what several verbs have

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="name:tag, hf:org/repo[/file], pypi:package, file:path or remote:URL#model."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads that compute.")]
Context = Annotated[
    int | None, typer.Option("--context", metavar="TOKENS", help="Context: prompt and answer together.")
]
Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="Engine that runs the model.")]
Precision = Annotated[
    str | None, typer.Option("--precision", metavar="WORD", help="exact, or fast for quicker prompts.")
]
KvMemory = Annotated[
    str | None, typer.Option("--kv-memory", metavar="SIZE", help="Most memory for the caches of conversations: 2GB.")
]
KvType = Annotated[
    str | None, typer.Option("--kv-type", metavar="WORD", help="f16, or int8 for caches of about half the size.")
]
Speculation = Annotated[
    str | None,
    typer.Option("--speculation", metavar="WORD", help="Guess tokens ahead: ngram, off, or draft:MODEL."),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="WORD", help="Where transformers computes: cpu, cuda, cuda:1, mps.")
]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="WORD", help="What it computes in: float32, bfloat16, float16.")
]
Quantize = Annotated[
    str | None, typer.Option("--quantize", metavar="WORD", help="Shrink weights while it loads: nf4 or int8.")
]
Attention = Annotated[
    str | None, typer.Option("--attention", metavar="WORD", help="How it attends: sdpa, eager, flash_attention_2.")
]
RemoteKey = Annotated[
    str | None,
    typer.Option("--remote-key", metavar="VARIABLE", help="Environment variable with the key of a remote server."),
]

# ---- what an answer is to be

Prompt = Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to answer; without one it is a chat.")]
System = Annotated[str | None, _option("--system", "TEXT", "System message: how to answer.")]
MaxTokens = Annotated[int | None, _option("--max-tokens", "N", "Most tokens to generate; 0 only reads the prompt.")]
Temperature = Annotated[
    float | None,
    _option("--temperature", "T", "Randomness; 0 always takes the likeliest token.", SAMPLING_DEFAULTS.temperature),
]
TopK = Annotated[
    int | None, _option("--top-k", "K", "Draw from the K likeliest tokens; 0 is all.", SAMPLING_DEFAULTS.top_k)
]
TopP = Annotated[
    float | None,
    _option("--top-p", "P", "Draw from the likeliest that add up to P; 1 is all.", SAMPLING_DEFAULTS.top_p),
]
MinP = Annotated[
    float | None,
    _option("--min-p", "P", "Leave out what is less likely than P times the best; 0 is off.", SAMPLING_DEFAULTS.min_p),
]
RepeatPenalty = Annotated[
    float | None,
    _option("--repeat-penalty", "R", "Make recent tokens less likely; 1 is off.", SAMPLING_DEFAULTS.repeat_penalty),
]
Seed = Annotated[int | None, _option("--seed", "N", "Same seed and same request, same answer.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End the answer before this text; may be given several times."),
]
Schema = Annotated[str | None, _option("--schema", "FILE|JSON", "The answer is JSON that this JSON schema accepts.")]
Pattern = Annotated[str | None, _option("--regex", "PATTERN", "The answer matches this pattern as a whole.")]
LarkGrammar = Annotated[
    str | None, _option("--grammar", "FILE", "The answer follows this grammar, in Lark's notation.")
]
Think = Annotated[
    bool | None,
    typer.Option("--think/--no-think", help="Whether a model that can think first does; unset: as it likes."),
]
Adapter = Annotated[
    str | None, _option("--adapter", "PATH[:SCALE]", "Answer with this LoRA adapter: a PEFT folder or GGUF file.")
]
Logprobs = Annotated[
    int | None, _option("--logprobs", "N", "With --json: how likely each token was, and N alternatives.")
]
KeptIn = Annotated[
    str | None, _option("--session", "NAME", "Keep the chat under this name, and go on where it ended last time.")
]
Continue = Annotated[bool, typer.Option("--continue", help="Go on with the chat that was kept last.")]
Raw = Annotated[bool, typer.Option("--raw", help="Send the prompt as it is, without the model's chat template.")]
Stats = Annotated[bool, typer.Option("--stats", help="Say how fast it was and where the tokens went.")]


# How models run, by the name of the setting that each of these is.
RUNNING = {
    "context": Context,
    "threads": Threads,
    "engine": Engine,
    "precision": Precision,
    "kv_memory": KvMemory,
    "kv_type": KvType,
    "speculation": Speculation,
    "device": Device,
    "dtype": Dtype,
    "quantize": Quantize,
    "attention": Attention,
    "remote_key": RemoteKey,
}

Verb: TypeAlias = Callable[..., None]


def running(*, without: Sequence[str] = ()) -> Callable[[Verb], Verb]:
    """The decorated verb has the options of :data:`RUNNING`; it takes one parameter ``settings`` in their place."""
    shared = {name: option for name, option in RUNNING.items() if name not in without}

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def with_settings(ctx: typer.Context, **given: Any) -> None:
            chosen = {name: given.pop(name) for name in shared}
            verb(settings=settings_of(ctx, **chosen), **given)

        own = [param for name, param in signature(verb, eval_str=True).parameters.items() if name != "settings"]
        context = Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option) for name, option in shared.items()
        ]
        with_settings.__signature__ = Signature([context, *own, *options])  # type: ignore[attr-defined]
        return with_settings

    return decorate


def n_bytes(text: str, option: str) -> int:
    """A size as people write it. Raises InvalidRequest, which names the option."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise InvalidRequest(f"--{option}: {error}.", param=option) from error


def settings_of(ctx: typer.Context, **command_line: Value) -> Settings:
    """All settings: the options given, over the environment that :func:`madang.cli.main.main` was handed."""
    return load_settings(command_line, ctx.obj)
